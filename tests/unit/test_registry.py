"""Which classes may come out of a payload."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from core.errors import EnvelopeError, SettingError, UnknownJobError
from core.job import Job, job_name
from core.queue.registry import JobRegistry


class SendEmail(Job):
    to: str


class Ping(Job):
    pass


def test_a_class_is_found_by_its_name() -> None:
    registry = JobRegistry([SendEmail])
    assert registry.find(f"{__name__}.SendEmail") is SendEmail


def test_register_is_a_decorator() -> None:
    registry = JobRegistry()
    assert registry.register(Ping) is Ping
    assert registry.find(job_name(Ping)) is Ping


def test_classes_are_listed_by_name() -> None:
    assert list(JobRegistry([SendEmail, Ping, SendEmail])) == [Ping, SendEmail]


def test_an_unknown_class_says_what_to_do() -> None:
    with pytest.raises(UnknownJobError) as caught:
        JobRegistry([SendEmail]).find("app.jobs.gone.Gone")
    assert "'app.jobs.gone.Gone'" in str(caught.value)
    assert "python main.py --queue-retry" in str(caught.value)
    assert isinstance(caught.value, EnvelopeError)


@pytest.mark.parametrize("name", ["this.Zen", "os.system", "builtins.exec", f"{__name__}.Ping", "SendEmail", ""])
def test_pitfall_34_only_what_is_registered_is_found_and_nothing_is_imported(name: str) -> None:
    with pytest.raises(UnknownJobError):
        JobRegistry([SendEmail]).find(name)
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("max_tries", "three", "a whole number of 1 or more"),
        ("max_tries", 0, "a whole number of 1 or more"),
        ("max_tries", 2.5, "a whole number of 1 or more"),
        ("max_tries", True, "a whole number of 1 or more"),
        ("retry_after", -1, "a number of seconds from 0"),
        ("retry_after", float("inf"), "a number of seconds from 0"),
        ("timeout", float("nan"), "a number of seconds from 0"),
        ("timeout", "30", "a number of seconds from 0"),
        ("timeout", 1e12, "a number of seconds from 0"),
        ("queue", "a,b", "1 to 191 printable characters, without , and ="),
        ("queue", "a ", "without blanks around them"),
        ("queue", "", "1 to 191 printable characters"),
    ],
)
def test_an_option_of_a_class_that_cannot_be_is_named_when_the_class_is_registered(
    option: str, value: Any, rule: str
) -> None:
    odd = type("Odd", (Job,), {option: value})
    with pytest.raises(SettingError) as caught:
        JobRegistry([odd])
    assert f"{job_name(odd)}.{option}={value!r} is not usable" in str(caught.value)
    assert rule in str(caught.value)


def test_options_that_can_be_or_are_worked_out_for_each_job_are_left_alone() -> None:
    class Usual(Job):
        max_tries = 1
        queue = "emails and letters"
        retry_after = 0
        timeout = 0.5

    class Unset(Job):
        max_tries = None  # type: ignore[assignment]

    class Computed(Job):
        @property
        def timeout(self) -> float:  # type: ignore[override]
            return 5.0

    assert len(list(JobRegistry([Usual, Unset, Computed]))) == 3


class Notice(Job):
    """The base of others."""


class Letter(Notice):
    async def handle(self) -> None: ...


def test_a_class_without_handle_is_refused_unless_it_is_the_base_of_others() -> None:
    JobRegistry([Notice, Letter]).require_runnable()
    with pytest.raises(SettingError) as caught:
        JobRegistry([Letter, Ping]).require_runnable()
    assert str(caught.value) == f"{__name__}.Ping has no handle(): define it, as `async def` or `def`."


async def _fits(self: Job, *rest: Any, given: int = 1, **more: Any) -> None: ...


async def _wants(self: Job, to: str) -> None: ...


def _static(to: str) -> None: ...


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"handle": _wants}, "has a handle() that wants 'to'"),
        ({"handle": staticmethod(_static)}, "has a handle() that wants 'to'"),
        ({"handle": _fits, "ordering_key": "divice"}, "has ordering_key='divice', and no field of that name"),
        ({"handle": _fits, "timeout": 5, "soft_timeout": 5}, "has soft_timeout=5, which comes no earlier than"),
        ({"handle": _fits, "timeout": 5, "soft_timeout": 60}, "has soft_timeout=60, which comes no earlier than"),
    ],
)
def test_a_class_that_no_worker_can_run_is_refused(attributes: dict[str, Any], problem: str) -> None:
    odd = type("Odd", (Job,), attributes)
    with pytest.raises(SettingError) as caught:
        JobRegistry([odd]).require_runnable()
    assert str(caught.value).startswith(f"{job_name(odd)} {problem}")


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"timeout": 5, "soft_timeout": 4},
        {"timeout": 0, "soft_timeout": 4},
        {"timeout": 5, "soft_timeout": 0},
        {"soft_timeout": 600},
        {"soft_timeout": property(lambda self: 600), "timeout": 5},
        {"ordering_key": "device", "__annotations__": {"device": str}},
        {"ordering_key": "device", "device": property(lambda self: "a")},
        {"ordering_key": "device", "__init__": lambda self: None},
        {"ordering_key": lambda self: "a"},
    ],
)
def test_a_class_that_a_worker_can_run_is_left_alone(
    attributes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    JobRegistry([type("Usual", (Job,), {"handle": _fits, **attributes})]).require_runnable()
    assert caplog.messages == []


def test_an_attribute_that_is_called_almost_like_an_option_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    class Hurried(Letter):
        max_retries = 5
        time_out = 3
        orderingkey = "to"
        versions = 2
        conversion = "no option"
        address = "no option"
        retry_afters: int = 1  # a field

        def timeouts(self) -> None: ...

    JobRegistry([Hurried]).require_runnable()
    name = job_name(Hurried)
    assert caplog.messages == [
        f"{name}.max_retries is no option and changes nothing; is it max_tries?",
        f"{name}.time_out is no option and changes nothing; is it timeout?",
        f"{name}.orderingkey is no option and changes nothing; is it ordering_key?",
        f"{name}.versions is no option and changes nothing; is it version?",
    ]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("ordered_by", "a class says ordering_key, and ordered_by is for routes"),
        ("deduplicate_by", "it is for routes; the dispatch of a job says unique_for"),
        ("unique_for", "it is for the dispatch of a job"),
        ("unique_by", "it is for the dispatch of a job"),
        ("delay", "it is for the dispatch of a job"),
    ],
)
def test_what_is_said_elsewhere_is_told_of(word: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    hurried = type("Hurried", (Letter,), {word: "to"})
    JobRegistry([hurried]).require_runnable()
    assert caplog.messages == [f"{job_name(hurried)}.{word} is no option of RouteMQ's; {why}"]
