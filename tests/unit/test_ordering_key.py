"""Ordering keys of jobs: where they come from, and what can be one."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest

from core.errors import DispatchError
from core.job import Job
from core.queue.ordering_key import LONGEST, key_text, own_ordering_key


class Site(StrEnum):
    MILL = "mill"


class Level(Enum):
    LOW = 1
    HALF = 0.5


class Plain(Job):
    device: str


class ByField(Job):
    ordering_key = "device"
    device: Any


class ByAttribute(Job):
    ordering_key = "device"

    def __init__(self) -> None:
        super().__init__()


class ByMethod(Job):
    site: str
    device: int

    def ordering_key(self) -> str | None:
        return f"{self.site}/{self.device}" if self.device else None


class ByMethodOfItsBase(ByMethod):
    pass


class Raising(Job):
    def ordering_key(self) -> str:
        raise LookupError("no device of that name")


def test_a_job_has_no_key_unless_its_class_says_so() -> None:
    assert own_ordering_key(Plain(device="a")) is None


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("pump-7", "pump-7"),
        ("é\u00a0日本 😀", "é\u00a0日本 😀"),
        (7, "7"),
        (-1, "-1"),
        (UUID("0190d2a4-0000-7000-8000-000000000000"), "0190d2a4-0000-7000-8000-000000000000"),
        (Site.MILL, "mill"),
        (Level.LOW, "1"),
        ("x" * LONGEST, "x" * LONGEST),
        (None, None),
    ],
    ids=repr,
)
def test_the_key_is_the_value_of_the_attribute_that_is_named(value: Any, key: str | None) -> None:
    assert own_ordering_key(ByField(device=value)) == key
    job: Any = ByAttribute()
    job.device = value
    assert own_ordering_key(job) == key


def test_a_key_is_a_str_whatever_it_was() -> None:
    assert {type(key_text(value)) for value in ("a", Site.MILL, 7)} == {str}


def test_a_method_returns_the_key_and_is_inherited() -> None:
    for cls in (ByMethod, ByMethodOfItsBase):
        assert own_ordering_key(cls(site="mill", device=7)) == "mill/7"
        assert own_ordering_key(cls(site="mill", device=0)) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "has 0 characters; a key has 1 to 255"),
        ("x" * (LONGEST + 1), "has 256 characters"),
        ("a\nb", "has a control character"),
        ("a\x00", "has a control character"),
        ("\x85", "has a control character"),
        ("\ud800", "half of a surrogate pair"),
        (1.5, "is a float; a key is text, a whole number, a UUID or an Enum of these"),
        (True, "is a bool"),
        (b"pump-7", "is a bytes"),
        (["a"], "is a list"),
        (Level.HALF, "is a float"),
        (10**5000, "digits"),
    ],
    ids=lambda value: repr(value)[:12] if not isinstance(value, int) or value < 9 else "digits",
)
def test_a_value_that_cannot_be_a_key_is_refused_with_job_reason_and_remedy(value: Any, said: str) -> None:
    with pytest.raises(DispatchError) as caught:
        own_ordering_key(ByField(device=value))
    text = str(caught.value)
    assert text.startswith(f"{__name__}.ByField cannot be dispatched: its ordering_key ")
    assert said in text
    assert text.endswith("Nothing was stored; correct the job, or what its class names as the key.")


def test_a_key_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(DispatchError, match=r"ByAttribute .* cannot be read: AttributeError"):
        own_ordering_key(ByAttribute())
    with pytest.raises(DispatchError, match=r"Raising .* cannot be read: LookupError\('no device of that name'\)"):
        own_ordering_key(Raising())
