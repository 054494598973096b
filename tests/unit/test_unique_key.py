"""What makes two dispatches the same job."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel

from core.errors import DispatchError
from core.job import Job
from core.queue.unique_key import digest, unique_key


class Kind(Enum):
    A = "a"
    B = "b"


@dataclass
class Part:
    names: set[str] = field(default_factory=set)


class Reading(msgspec.Struct):
    value: float
    tags: frozenset[str] = frozenset()


class Sender(BaseModel):
    labels: set[str] = set()


class Store(Job):
    device: str
    tags: set[str] = set()  # noqa: RUF012, each job has its own
    kinds: set[Kind] = set()  # noqa: RUF012
    counts: dict[int, str] = {}  # noqa: RUF012
    anything: Any = None
    part: Part = Part()
    reading: Reading | None = None
    sender: Sender | None = None


class Other(Store):
    pass


class Plain(Job):
    def __init__(self, **values: Any) -> None:
        super().__init__()
        vars(self).update(values)


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = {"one", "two", "three", "four"}


def whole() -> Store:
    return Store(
        device="a",
        tags=set(NAMES),
        kinds={Kind.A, Kind.B},
        counts={1: "x", 0: "y"},
        anything={"when": MOMENT, "ids": {UUID(int=7), b"\xff", 3, None}},
        part=Part(set(NAMES)),
        reading=Reading(1.5, frozenset(NAMES)),
        sender=Sender(labels=set(NAMES)),
    )


def test_jobs_of_one_class_with_equal_data_are_the_same() -> None:
    assert unique_key(whole(), None) == unique_key(whole(), None)
    assert len(unique_key(whole(), None)) == 64


def test_what_has_no_order_makes_no_difference() -> None:
    one, other = Plain(at={"a": 1, "b": {2, 3}}), Plain(at={"b": {3, 2}, "a": 1})
    assert unique_key(one, None) == unique_key(other, None)
    assert unique_key(Plain(a=1, b=2), None) == unique_key(Plain(b=2, a=1), None)


def test_a_key_is_the_same_in_every_process() -> None:
    """Sets of text have another order in each."""
    program = (
        f"from {__name__} import whole; from core.queue.unique_key import unique_key; print(unique_key(whole(), None))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "other",
    [
        Store(device="b"),
        Other(device="a"),
        Store(device="a", tags={"x"}),
        Store(device="a", counts={1: "x"}),
        Store(device="a", anything=0),
        Store(device="a", anything="None"),
        Store(device="a", anything=[[]]),
        Store(device="a", part=Part({"x"})),
    ],
    ids=repr,
)
def test_other_data_or_another_class_is_another_job(other: Store) -> None:
    assert unique_key(other, None) != unique_key(Store(device="a"), None)


def test_options_and_ids_make_no_difference() -> None:
    job, again = Store(device="a"), Store(device="a")
    again.max_tries, again.queue, again.job_id = 1, "low", "0190-id"
    assert unique_key(job, None) == unique_key(again, None)


def test_unique_by_takes_the_place_of_the_data_but_not_of_the_class() -> None:
    by = unique_key(Store(device="a"), "order 7")
    assert by == unique_key(Store(device="b"), "order 7")
    assert len({by, unique_key(Store(device="a"), "order 8"), unique_key(Other(device="a"), "order 7")}) == 3
    assert by != unique_key(Store(device="a"), None)


def test_unique_by_may_be_any_text() -> None:
    assert len({unique_key(Store(device="a"), text) for text in ("x" * 9999, "\ud800", "\x00", "日本")}) == 4


@pytest.mark.parametrize("given", ["", 7, b"a", ["a"]], ids=repr)
def test_a_unique_by_that_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(DispatchError, match=r"Store: unique_by=.* is not usable; give a text that is not empty"):
        unique_key(Store(device="a"), given)


def test_parts_do_not_run_into_one_another() -> None:
    assert len({digest(b"a", b"b"), digest(b"ab"), digest(b"ab", b""), digest(b"", b"ab"), digest(b"1:a")}) == 5
