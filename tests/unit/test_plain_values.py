"""Values without a declared type: whatever is written can be read back, and nothing else can be written."""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.queue.plain_values import from_json, to_json
from tests.examples import examples


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


ODD_ZONE = timezone(timedelta(microseconds=1))


def round_trip(value: Any) -> Any:
    return from_json(msgspec.json.decode(msgspec.json.encode(to_json(value))))


zones: st.SearchStrategy[Any] = (
    st.none() | st.just(UTC) | st.integers(-82_800, 82_800).map(lambda each: timezone(timedelta(seconds=each)))
)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
)
nested_hashable = st.recursive(hashable, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3))
values = st.recursive(
    nested_hashable | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(nested_hashable, max_size=3)
        | st.dictionaries(nested_hashable, inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$bytes", "$", "$new", "a", ""]), inner, max_size=2)
    ),
    max_leaves=10,
)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@examples(60)
@given(values)
def test_pitfall_35_every_value_comes_back_as_it_was(value: Any) -> None:
    read = round_trip(value)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        b"\x00\xff",
        bytearray(b"\x00"),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2026, 1, 2),  # noqa: DTZ001, without a zone on purpose
        datetime(1880, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32))),
        date(2026, 1, 2),
        time(3, 4, 5, 6, tzinfo=UTC),
        timedelta(days=-1, microseconds=1),
        UUID("0190b3a0-7a3c-7c2e-8f11-2f3a4b5c6d7e"),
        Decimal("1.10"),
        Decimal("-Infinity"),
        (1, (2,)),
        {1, 2},
        frozenset({1}),
        {1: "a", None: "b", (1, 2): {"c"}},
        {"$bytes": "no mark"},
        {"a": {"$bytes": 1, "b": 2}},
        [[], {}, (), set()],
        -(2**70),
        2**64,
        "",
        "\x00\u2028\U0001f680",
        math.inf,
        -math.inf,
        True,
        1,
        1.0,
        -0.0,
    ],
    ids=repr,
)
def test_pitfall_35_each_kind_comes_back_with_its_type(value: Any) -> None:
    read = round_trip([value])[0]
    assert (read, type(read), repr(read)) == (value, type(value), repr(value))


def test_not_a_number_comes_back() -> None:
    assert math.isnan(round_trip(math.nan))
    assert round_trip(Decimal("NaN")).is_nan()


def test_json_is_written_as_itself() -> None:
    value = {"text": "a", "list": [1, 2.5, None, True], "inner": {"$a": 1, "b": {}}}
    assert to_json({"text": "a", "list": [1, 2.5, None, True]}) == {"text": "a", "list": [1, 2.5, None, True]}
    assert round_trip(value) == value


@pytest.mark.parametrize(
    "value",
    [object(), Colour.RED, Level.LOW, OrderedDict(a=1), defaultdict(list), 1j, range(3), print, UUID, math],
    ids=lambda value: type(value).__name__,
)
def test_a_type_that_could_not_be_read_back_is_refused(value: Any) -> None:
    for nest in (value, [value], {"a": value}, (value,), {1: value}):
        with pytest.raises(TypeError, match="declare the attribute as a typed field, or store plain data"):
            to_json(nest)


@pytest.mark.parametrize("value", [datetime(2026, 1, 2, tzinfo=ODD_ZONE), time(1, 2, tzinfo=ODD_ZONE)], ids=str)
def test_a_time_zone_that_python_does_not_read_back_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="convert it to UTC"):
        to_json(value)


@pytest.mark.parametrize("mark", ["$class", "$python/object", "$", "$Bytes"])
def test_pitfall_34_a_mark_that_is_not_known_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="marked '\\" + mark):
        from_json([{mark: "os.system"}])


@pytest.mark.parametrize(
    "value",
    [
        {"$bytes": "*"},
        {"$uuid": "x"},
        {"$datetime": "yesterday"},
        {"$decimal": "x"},
        {"$timedelta": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"$tuple": None},
        {"$set": [[1]]},
        {"$dict": [[1]]},
    ],
    ids=lambda value: next(iter(value)),
)
def test_a_mark_with_a_wrong_content_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        from_json(value)
