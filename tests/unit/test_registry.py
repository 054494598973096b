"""Which classes may come out of a payload."""

from __future__ import annotations

import sys

import pytest

from core.errors import EnvelopeError, UnknownJobError
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
