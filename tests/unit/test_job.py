"""`Job` as users write it: declared fields or plain attributes, options, hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from types import ModuleType
from typing import Any, ClassVar

import pytest

from core.job import Job, declared_fields, field_types, job_name


@dataclass
class Limits:
    low: int = 0
    marks: list[int] = field(default_factory=list)


class SendEmail(Job):
    queue = "emails"
    max_tries = 5
    to: str
    subject: str = "Hello"


class Import(Job):
    kinds: ClassVar[list[str]] = ["csv"]
    limit: ClassVar = 3
    _secret: str = "s"
    queue: str = "imports"
    rows: list[int] = []  # noqa: RUF012, each job has its own
    index: dict[str, list[int]] = {"a": []}  # noqa: RUF012
    tags: set[str] = {"new"}  # noqa: RUF012
    buffer: bytearray = bytearray(b"x")
    limits: Limits = Limits()


class SendReport(SendEmail):
    subject: str = "Report"
    pages: int = 1


class SendWelcome(Job):
    def __init__(self) -> None:
        super().__init__()
        self.user_id: int | None = None


class Ping(Job):
    pass


untyped: Any = SendEmail
"""For calls that a type checker refuses, too."""


def module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> ModuleType:
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(source, vars(made))
    return made


# ── declared fields ──────────────────────────────────────────────────────────────────────────────────────


def test_declared_fields_are_set_by_keyword_and_have_defaults() -> None:
    job = SendEmail(to="a@example.com")
    assert (job.to, job.subject, job.queue, job.max_tries) == ("a@example.com", "Hello", "emails", 5)


def test_a_field_left_out_is_named() -> None:
    with pytest.raises(TypeError, match=r"SendEmail: .*'to'"):
        untyped()


def test_a_field_not_declared_is_named() -> None:
    with pytest.raises(TypeError, match="SendEmail declares no field cc, subjekt"):
        untyped(to="a", subjekt="x", cc="y")


@pytest.mark.parametrize("option", ["queue", "max_tries", "retry_after", "timeout", "job_id", "attempts"])
def test_options_are_no_fields(option: str) -> None:
    with pytest.raises(TypeError, match=f"declares no field {option}"):
        untyped(to="a", **{option: 1})


def test_fields_are_not_positional() -> None:
    with pytest.raises(TypeError):
        untyped("a@example.com")


def test_class_variables_private_names_and_annotated_options_are_no_fields() -> None:
    assert list(field_types(Import)) == ["rows", "index", "tags", "buffer", "limits"]
    assert Import().queue == "imports"


@pytest.mark.parametrize("name", ["rows", "index", "tags", "buffer", "limits"])
def test_a_mutable_default_is_no_jobs_in_common(name: str) -> None:
    one, other = Import(), Import()
    assert getattr(one, name) == getattr(other, name) == getattr(Import, name)
    assert getattr(one, name) is not getattr(other, name)
    assert getattr(one, name) is not getattr(Import, name)


def test_what_a_mutable_default_holds_is_not_shared_either() -> None:
    one = Import()
    one.index["a"].append(1)
    one.limits.marks.append(1)
    assert Import().index == {"a": []}
    assert Import().limits == Limits()


# ── inheritance ──────────────────────────────────────────────────────────────────────────────────────────


def test_fields_and_options_are_inherited() -> None:
    job = SendReport(to="a")
    assert list(field_types(SendReport)) == ["to", "subject", "pages"]
    assert (job.subject, job.pages, job.queue, job.max_tries) == ("Report", 1, "emails", 5)


def test_a_default_given_without_a_type_overrides() -> None:
    class Urgent(SendEmail):
        subject = "Now"

    assert Urgent(to="a").subject == "Now"


def test_a_subclass_does_not_change_the_fields_of_its_base() -> None:
    assert SendReport(to="a").subject == "Report"
    assert SendEmail(to="a").subject == "Hello"
    with pytest.raises(TypeError, match="pages"):
        untyped(to="a", pages=2)


def test_a_base_of_another_module_has_its_types_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = module(
        monkeypatch,
        "shop_of_base",
        "from __future__ import annotations\n"
        "from datetime import datetime as Moment\n"
        "from core.job import Job\n"
        "class Ordered(Job):\n"
        "    at: Moment\n",
    )
    other = module(
        monkeypatch,
        "shop_of_child",
        "from __future__ import annotations\n"
        "from shop_of_base import Ordered\n"
        "class Shipped(Ordered):\n"
        "    by: str = 'post'\n",
    )
    assert field_types(other.Shipped) == {"at": datetime, "by": str}
    assert field_types(shop.Ordered) == {"at": datetime}


def test_a_class_without_postponed_annotations_has_the_same_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from core.job import Job\nclass Send(Job):\n    to: str\n    copies: 'list[str]' = []\n"
    made = module(monkeypatch, "without_postponed", source)
    assert field_types(made.Send) == {"to": str, "copies": list[str]}
    assert made.Send(to="a").copies == []


def test_a_mixin_that_is_no_job_adds_no_field() -> None:
    class Audited:
        actor: str = "nobody"

    class Erase(Audited, Job):
        row: int

    assert list(field_types(Erase)) == ["row"]
    assert Erase(row=1).actor == "nobody"


def test_a_field_whose_type_is_not_known_is_an_error_that_names_it() -> None:
    class Broken(Job):
        to: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(NameError, match="Nowhere"):
        Broken(to=1)


# ── plain attributes ─────────────────────────────────────────────────────────────────────────────────────


def test_a_class_with_a_constructor_carries_plain_attributes() -> None:
    job = SendWelcome()
    job.user_id = 7
    assert declared_fields(SendWelcome) is None
    assert vars(job) == {"user_id": 7}


def test_a_class_without_fields_takes_no_values() -> None:
    assert vars(Ping()) == {}
    with pytest.raises(TypeError, match="Ping declares no field user_id"):
        Ping(user_id=7)


def test_a_constructor_of_its_own_wins_over_declared_fields() -> None:
    class Greet(SendEmail):
        def __init__(self, name: str) -> None:
            Job.__init__(self)
            self.to = name

    assert vars(Greet("a")) == {"to": "a"}


# ── what else a job has ──────────────────────────────────────────────────────────────────────────────────


def test_a_job_without_handle_says_what_to_define() -> None:
    with pytest.raises(NotImplementedError, match=r"Ping has no handle\(\): define it"):
        Ping().handle()


async def test_hooks_that_are_not_defined_change_nothing() -> None:
    job: Any = Ping()
    assert job.failed(ValueError()) is None
    assert job.should_retry(ValueError()) is True


def test_a_job_shows_its_values_and_not_its_private_ones() -> None:
    job = SendEmail(to="a")
    job.max_tries = 1
    vars(job)["_token"] = "secret"
    assert repr(job) == "SendEmail(to='a', subject='Hello', max_tries=1)"


def test_a_name_holds_module_and_class() -> None:
    assert job_name(SendEmail) == f"{__name__}.SendEmail"


@pytest.mark.parametrize("name", ["handle", "failed", "should_retry"])
def test_a_hook_cannot_be_a_field(name: str) -> None:
    cls = type("Odd", (Job,), {"__annotations__": {name: int}, "__module__": __name__})
    with pytest.raises(TypeError, match=f"'{name}' cannot be a field"):
        cls()


# ── what a class says of itself ──────────────────────────────────────────────────────────────────────────


def upgrade(data: dict[str, Any], version: int) -> dict[str, Any]:
    return data


async def async_upgrade(data: dict[str, Any], version: int) -> dict[str, Any]:
    return data


async def async_key(self: Job) -> str:
    return "a"


def supplied(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator's work."""

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments, "more")

    return call


def defined(**words: Any) -> type[Job]:
    return type("Defined", (Job,), {"__module__": __name__, **words})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"version": 0}, "version=0 is not usable; give a whole number from 1"),
        ({"version": -1}, "version=-1 is not usable"),
        ({"version": "2"}, "version='2' is not usable"),
        ({"version": True}, "version=True is not usable"),
        ({"version": 2}, "version=2 needs upgrade(data, version), which makes what older ones stored fit this one"),
        ({"upgrade": staticmethod(upgrade)}, "upgrade() is never called while version is 1; raise that"),
        ({"version": 2, "upgrade": upgrade}, "make it a @classmethod or @staticmethod, not async"),
        ({"version": 2, "upgrade": staticmethod(async_upgrade)}, "make it a @classmethod or @staticmethod, not async"),
        ({"version": 2, "upgrade": staticmethod(lambda data: data)}, "give it both, data and version"),
        ({"version": 2, "upgrade": classmethod(lambda cls, data: data)}, "give it both, data and version"),
        ({"version": 2, "upgrade": staticmethod(lambda data, version, more: data)}, "give it both, data and version"),
        ({"__annotations__": {"version": "str"}}, "'version' cannot be a field: it is a word of RouteMQ's."),
        ({"__annotations__": {"ordering_key": "str"}}, "'ordering_key' cannot be a field"),
        ({"__annotations__": {"attempts": "int"}, "attempts": 3}, "'attempts' cannot be a field"),
        ({"__annotations__": {"job_id": "str"}}, "'job_id' cannot be a field"),
        ({"ordering_key": ""}, "ordering_key='' is not usable; name an attribute, or define it as a method"),
        ({"ordering_key": "a.b"}, "ordering_key='a.b' is not usable"),
        ({"ordering_key": 7}, "ordering_key=7 is not usable"),
        ({"ordering_key": property(lambda self: "a")}, "is not usable; name an attribute, or define it as a method"),
        ({"ordering_key": async_key}, "ordering_key() is async, and is not usable; name an attribute, or define it"),
        ({"ordering_key": lambda: "a"}, "ordering_key() is called without arguments; have it read what it needs from"),
        ({"ordering_key": lambda self, more: "a"}, "ordering_key() is called without arguments"),
        ({"execution": "thread"}, "execution='thread' is not known"),
    ],
)
def test_what_a_class_cannot_say_is_refused_when_it_is_defined(words: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        defined(**words)
    assert str(caught.value).startswith(f"{__name__}.Defined: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        {"version": 2, "upgrade": staticmethod(upgrade)},
        {"version": 2, "upgrade": classmethod(lambda cls, data, version: data)},
        {"version": 2, "upgrade": classmethod(lambda cls, *more: more[0])},
        {"version": 2, "upgrade": staticmethod(max)},
        {"version": 2, "upgrade": staticmethod(supplied(lambda data, version, more: data))},
        {"version": 1},
        {"ordering_key": "device_id"},
        {"ordering_key": lambda self: "a"},
        {"ordering_key": staticmethod(lambda: "a")},
        {"ordering_key": lambda self, more=1: "a"},
        {"ordering_key": supplied(lambda self, more: "a")},
        {"ordering_key": None},
    ],
    ids=lambda words: " ".join(words),
)
def test_what_a_class_can_say_is_taken_and_inherited(words: dict[str, Any]) -> None:
    base = defined(**words)
    heir: Any = type("Heir", (base,), {})
    assert heir.version == base.version == words.get("version", 1)


def test_upgrade_cannot_be_a_field() -> None:
    class Odd(Job):
        upgrade: bool  # type: ignore[assignment]

    odd: Any = Odd
    with pytest.raises(TypeError, match="'upgrade' cannot be a field"):
        odd()
