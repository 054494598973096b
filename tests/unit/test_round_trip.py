"""Any value at all in a job: it comes back as it was, or the dispatch refuses it. Nothing is changed without a word."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from functools import cache
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from pydantic import BaseModel

from core.database.columns import payload_to_text, text_to_payload
from core.errors import DispatchError
from core.job import Job
from core.queue.envelope import load_job, read_envelope, write_envelope
from core.queue.registry import JobRegistry
from tests.examples import examples

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    ONE = "1"


class Rights(IntFlag):
    READ = 1
    WRITE = 2


@dataclass
class Place:
    name: str
    at: datetime | None = None
    tags: set[str] = field(default_factory=set)


@dataclass
class Villa(Place):
    rooms: int = 9


@dataclass
class Box:
    content: Any = None
    bag: dict = field(default_factory=dict)  # type: ignore[type-arg]


class Header(msgspec.Struct):
    key: bytes
    ratio: float = 0.5
    inner: Header | None = None


class LongHeader(Header):
    more: int = 7


class Line(TypedDict):
    sku: UUID
    count: int


class Pair(NamedTuple):
    left: Decimal
    right: Any


class Reading(BaseModel):
    value: float | None
    taken: datetime
    extra: Any = None


class Text(str):
    __slots__ = ()


# ── whatever a program may come up with ──────────────────────────────────────────────────────────────────────────────

zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("Africa/Monrovia")]),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone),
)
moments = st.datetimes(timezones=zones, allow_imaginary=True) | st.sampled_from(
    [datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin")) for fold in (0, 1)]
)
texts = st.text(st.characters()) | st.sampled_from(["", "\0", "\ud800", "null", "$bytes", '"', "\u2028", "1"])
numbers = st.integers() | st.sampled_from([2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 10**4299])
floats = st.floats() | st.sampled_from([1e22, 5e-324, -0.0, float(2**63)])
countable = st.decimals().filter(lambda each: not each.is_snan())  # which has no hash
keys = st.one_of(st.none(), st.booleans(), numbers, floats, texts, st.binary(), moments, st.uuids(), countable)
odd = st.sampled_from(
    [
        *Colour,
        *Level,
        *Word,
        *Rights,
        Text("a"),
        object(),
        print,
        Colour,
        1j,
        OrderedDict(a=1),
        memoryview(b"a"),
        range(2),
    ]
)
leaves = st.one_of(
    keys, odd, st.decimals(), st.binary().map(bytearray), st.dates(), st.times(timezones=zones), st.timedeltas()
)
hashable = st.recursive(keys, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=4)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.sets(hashable, max_size=3),
        st.dictionaries(hashable, inner, max_size=3),
        st.dictionaries(st.sampled_from(["$bytes", "$", "a"]), inner, max_size=2),
        st.builds(Box, inner, st.dictionaries(keys, inner, max_size=2)),
        st.builds(Place, texts, st.none() | moments, st.sets(texts, max_size=2)),
        st.builds(Villa, texts, st.none() | moments),
        st.builds(Header, st.binary(), floats),
        st.builds(LongHeader, st.binary(), floats),
        st.builds(Pair, st.decimals(), inner),
        st.fixed_dictionaries({"sku": st.uuids(), "count": numbers}, optional={"more": inner}),
    ),
    max_leaves=6,
)
readings = st.builds(Reading, value=st.none() | floats, taken=st.datetimes(timezones=zones), extra=leaves)
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    int: numbers,
    float: floats | numbers,
    str: texts,
    bytes: st.binary(),
    datetime: moments,
    time: st.times(timezones=zones),
    date: st.dates(),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Decimal: st.decimals(),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Rights: st.sampled_from([*Rights, Rights.READ | Rights.WRITE]),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    int | str | None: st.none() | numbers | texts,
    list[datetime]: st.lists(moments, max_size=3),
    set[Decimal]: st.sets(st.decimals(allow_nan=False), max_size=3),
    frozenset[int]: st.frozensets(numbers, max_size=3),
    tuple[bytes, ...]: st.lists(st.binary(), max_size=3).map(tuple),
    dict[str, float | None]: st.dictionaries(texts, st.none() | floats, max_size=3),
    dict[int | str, int]: st.dictionaries(st.integers(0, 2) | st.sampled_from("012"), numbers, max_size=3),
    dict[datetime, UUID]: st.dictionaries(moments, st.uuids(), max_size=2),
    Place: st.builds(Place, texts, st.none() | moments, st.sets(texts, max_size=2)) | st.builds(Villa, texts),
    list[Place]: st.lists(st.builds(Place, texts, st.none() | moments) | st.builds(Villa, texts), max_size=2),
    Box | None: st.none() | st.builds(Box, anything, st.dictionaries(keys, anything, max_size=2)),
    Header: st.builds(Header, st.binary(), floats, st.none() | st.builds(LongHeader, st.binary())),
    Line: st.fixed_dictionaries({"sku": st.uuids(), "count": numbers}, optional={"more": leaves}),
    Pair: st.builds(Pair, st.decimals(), anything),
    Reading: readings,
    dict[str, Reading]: st.dictionaries(texts, readings, max_size=2),
    Any: anything,
    list[Any]: st.lists(anything, max_size=3),
}


@cache
def declaring(kind: Any) -> type[Job]:
    """A job class with one field of a type."""
    return type("Declared", (Job,), {"__annotations__": {"value": kind}, "__module__": __name__})


class Plain(Job):
    def __init__(self) -> None:
        super().__init__()
        self.value: Any = None


def read_again(job: Job) -> Any:
    """What a worker gets to see of it, by way of a text column."""
    payload = write_envelope(job, "0190-id", "emails", NOW)
    envelope = read_envelope(text_to_payload(payload_to_text(payload)))
    return load_job(envelope, JobRegistry([type(job)]))


def is_identical(given: Any, read: Any) -> bool:
    """The same value of the same type, all the way down; two NaNs are."""
    if type(given) is not type(read):
        return False
    if isinstance(given, dict):
        found = list(read)
        return len(given) == len(read) and all(
            any(is_identical(key, other) and is_identical(each, read[other]) for other in found)
            for key, each in given.items()
        )
    if isinstance(given, list | tuple):
        return len(given) == len(read) and all(map(is_identical, given, read))
    if isinstance(given, set | frozenset):
        return len(given) == len(read) and all(any(is_identical(each, other) for other in read) for each in given)
    if isinstance(given, datetime | time):
        return bool(given.replace(tzinfo=None) == read.replace(tzinfo=None)) and given.utcoffset() == read.utcoffset()
    if isinstance(given, float | Decimal):
        return repr(given) == repr(read)
    parts = parts_of(given)
    return is_identical(parts, parts_of(read)) if parts is not None else bool(given == read)


def parts_of(value: Any) -> dict[str, Any] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else None


@pytest.mark.filterwarnings("ignore:Generating overly large repr", "ignore:Pydantic serializer warnings")
@examples(150)
@given(anything)
def test_a_plain_attribute_comes_back_as_it_was_or_is_refused(value: Any) -> None:
    job = Plain()
    job.value = value
    try:
        read = read_again(job)
    except DispatchError:
        event("refused")
        return
    assert is_identical(value, read.value)


@pytest.mark.filterwarnings("ignore:Generating overly large repr", "ignore:Pydantic serializer warnings")
@examples(15)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind).replace(f"{__name__}.", ""))
@given(st.data())
def test_a_declared_field_comes_back_as_it_was_or_is_refused(kind: Any, data: st.DataObject) -> None:
    value = data.draw(KINDS[kind])
    try:
        read = read_again(declaring(kind)(value=value))
    except DispatchError:
        event("refused")
        return
    says_the_same = kind is float and type(value) is int and read.value == value
    assert says_the_same or is_identical(value, read.value)


@pytest.mark.filterwarnings("ignore:Generating overly large repr", "ignore:Pydantic serializer warnings")
@examples(150)
@given(st.sampled_from(list(KINDS)), anything)
def test_whatever_a_declared_field_takes_is_the_same_from_then_on(kind: Any, value: Any) -> None:
    """A value of another type may become the declared one, once."""
    try:
        read = read_again(declaring(kind)(value=value)).value
    except DispatchError:
        event("refused")
        return
    assert is_identical(read, read_again(declaring(kind)(value=read)).value)


OPTION = st.one_of(st.integers(), st.floats(), st.none(), st.booleans(), texts, st.sampled_from([10**400, -0.0, 1e10]))


@given(st.dictionaries(st.sampled_from(["max_tries", "retry_after", "timeout", "soft_timeout"]), OPTION))
def test_the_options_of_an_instance_come_back_as_they_were_or_are_refused(options: Mapping[str, Any]) -> None:
    job = Plain()
    vars(job).update(options)
    try:
        read = read_again(job)
    except DispatchError:
        event("refused")
        return
    assert is_identical(dict(options), {name: vars(read)[name] for name in options})
