"""A job's values on their way through a store: both styles, every type, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from core.errors import DispatchError, EnvelopeError
from core.job import Job
from core.queue.job_data import decode_data, encode_data
from tests.examples import examples


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Place:
    name: str
    at: datetime | None = None
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    label: bytes | None = None


class Reading(BaseModel):
    value: float | None
    taken: datetime
    raw: list[Decimal] = []


class Header(msgspec.Struct):
    key: bytes
    zone: str | None = None


class Line(TypedDict):
    sku: UUID
    count: int


class Size(NamedTuple):
    width: int
    height: float


@dataclass
class Box:
    """Leaves its content open, though it is declared itself."""

    content: Any = None
    bag: dict = field(default_factory=dict)  # type: ignore[type-arg]


class OpenStruct(msgspec.Struct):
    content: Any


class OpenLine(TypedDict):
    content: Any


class OpenPair(NamedTuple):
    content: Any


class OpenModel(BaseModel):
    content: Any


@dataclass
class Villa(Place):
    rooms: int = 9


@dataclass
class Node:
    """Holds its like."""

    content: Any = None
    next: Node | None = None


class Everything(Job):
    text: str
    number: int
    ratio: float
    flag: bool
    blob: bytes
    moment: datetime
    day: date
    hour: time
    span: timedelta
    key: UUID
    amount: Decimal
    colour: Colour
    level: Level
    tags: set[str]
    frozen: frozenset[int]
    pair: tuple[int, bytes]
    many: tuple[Decimal, ...]
    names: list[str]
    table: dict[str, list[int]]
    by_day: dict[date, UUID]
    maybe: int | None
    either: int | str | None
    choice: Literal["a", "b"]
    bounded: Annotated[int, msgspec.Meta(ge=0)]
    place: Place
    point: Point
    reading: Reading
    header: Header
    line: Line
    size: Size
    places: list[Place]
    readings: dict[str, Reading]
    anything: Any
    extra: dict[str, Any]
    loose: list[Any]
    bare: dict  # type: ignore[type-arg]


deep = pytest.mark.filterwarnings("ignore:Generating overly large repr")
numbers = st.floats(allow_nan=False, allow_infinity=False)
zones = st.none() | st.integers(-23 * 60, 23 * 60).map(lambda each: timezone(timedelta(minutes=each)))
moments = st.datetimes(timezones=zones)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
places = st.builds(Place, st.text(), st.none() | moments, st.sets(st.text(), max_size=2))
readings = st.builds(
    Reading,
    value=st.none() | numbers,
    taken=st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.sampled_from([None, UTC])),  # noqa: DTZ001
    raw=st.lists(decimals, max_size=2),
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | moments
    | decimals,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner),
    max_leaves=6,
)
everything = st.builds(
    Everything,
    text=st.text(),
    number=st.integers(),
    ratio=numbers,
    flag=st.booleans(),
    blob=st.binary(),
    moment=moments,
    day=st.dates(),
    hour=st.times(),
    span=st.timedeltas(),
    key=st.uuids(),
    amount=decimals,
    colour=st.sampled_from(Colour),
    level=st.sampled_from(Level),
    tags=st.sets(st.text(), max_size=3),
    frozen=st.frozensets(st.integers(), max_size=3),
    pair=st.tuples(st.integers(), st.binary()),
    many=st.lists(decimals, max_size=3).map(tuple),
    names=st.lists(st.text(), max_size=3),
    table=st.dictionaries(st.text(), st.lists(st.integers(), max_size=2), max_size=2),
    by_day=st.dictionaries(st.dates(), st.uuids(), max_size=2),
    maybe=st.none() | st.integers(),
    either=st.none() | st.integers() | st.text(),
    choice=st.sampled_from(["a", "b"]),
    bounded=st.integers(0, 9),
    place=places,
    point=st.builds(Point, numbers, st.none() | st.binary()),
    reading=readings,
    header=st.builds(Header, st.binary(), st.none() | st.text()),
    line=st.fixed_dictionaries({"sku": st.uuids(), "count": st.integers()}),
    size=st.builds(Size, st.integers(), numbers),
    places=st.lists(places, max_size=2),
    readings=st.dictionaries(st.text(), readings, max_size=2),
    anything=plain,
    extra=st.dictionaries(st.text(), plain, max_size=3),
    loose=st.lists(plain, max_size=3),
    bare=st.dictionaries(st.text(), plain, max_size=3),
)


def round_trip(job: Job) -> Any:
    return decode_data(type(job), encode_data(job))


def one_field(kind: Any, **options: Any) -> type[Job]:
    """A job class with a single field `value`."""
    return type("One", (Job,), {"__annotations__": {"value": kind}, "__module__": __name__, **options})


# ── declared fields ──────────────────────────────────────────────────────────────────────────────────────


@deep
@examples(40)
@given(everything)
def test_pitfall_35_declared_fields_of_every_type_come_back_as_they_were(job: Everything) -> None:
    read = round_trip(job)
    assert vars(read) == vars(job)
    assert {name: type(value) for name, value in vars(read).items()} == {
        name: type(value) for name, value in vars(job).items()
    }


def test_the_data_is_json_that_a_person_can_read() -> None:
    class Send(Job):
        to: str
        raw: bytes
        at: datetime

    data = encode_data(Send(to="é", raw=b"\x00", at=datetime(2026, 1, 2, tzinfo=UTC)))
    assert data.decode() == '{"to":"é","raw":"AA==","at":"2026-01-02T00:00:00Z"}'


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "7", "Expected `int`, got `str`"),
        (int, 1.5, "Expected `int`, got `float`"),
        (int, True, "Expected `int`, got `bool`"),
        (str, 7, "Expected `str`, got `int`"),
        (str, None, "Expected `str`, got `null`"),
        (str, b"YWJj", "Expected `str`, got `bytes`"),
        (str, datetime(2026, 1, 1, tzinfo=UTC), "Expected `str`, got `datetime`"),
        (str, UUID(int=7), "Expected `str`, got `uuid`"),
        (bytes, "abcd", "Expected `bytes`, got `str`"),
        (bytes | None, "abcd", "got `str`"),
        (float, "1.5", "Expected `float`, got `str`"),
        (float, 10**400, "Number out of range"),
        (datetime, "yesterday", "Invalid RFC3339"),
        (UUID, "7", "Invalid UUID"),
        (Colour, "green", "Invalid enum value 'green'"),
        (Literal["a"], "b", "Invalid enum value 'b'"),
        (Annotated[int, msgspec.Meta(ge=0)], -1, ">= 0"),
        (list[int], ["a"], "Expected `int`, got `str`"),
        (dict[str, Any], [1], "Expected `object`, got `array`"),
        (list[Any], {"a": 1}, "Expected `array`, got `object`"),
        (Place, {"name": 7}, "Expected `str`, got `int`"),
        (Place, Place(7), "Expected `str`, got `int`"),  # type: ignore[arg-type]
        (Place, Place(b"a"), "Expected `str`, got `bytes`"),  # type: ignore[arg-type]
        (Point, Point(1.0, "abcd"), "got `str`"),  # type: ignore[arg-type]
        (list[Header], [Header("abcd")], "Expected `bytes`, got `str`"),  # type: ignore[arg-type]
        (Reading, 7, "Reading"),
        (Any, object(), "is a object"),
        (dict[str, Any], {"a": object()}, "is a object"),
        (str, "\ud800", "surrogates"),
        (object, 1, "cannot be stored as JSON"),
        (Place, object(), "cannot be stored as JSON|unsupported"),
        (dict[tuple[int, int], int], {(1, 2): 3}, "keys"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_when_it_is_dispatched(kind: Any, value: Any, words: str) -> None:
    job = one_field(kind)(value=value)
    with pytest.raises(DispatchError, match=words) as caught:
        encode_data(job)
    assert str(caught.value).startswith(f"{__name__}.One cannot be dispatched: ")
    assert str(caught.value).endswith("Nothing was stored.")


AMSTERDAM = timezone(timedelta(minutes=19, seconds=32))  # until 1937


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Box, Box(b"abc")),
        (Box, Box(datetime(2026, 1, 1, tzinfo=UTC))),
        (Box, Box((1, 2))),
        (Box, Box({1, 2})),
        (Box, Box({1: 2})),
        (Box, Box(Colour.RED)),
        (Box, Box(Place("a"))),
        (Box, Box(bag={"a": [b"x"]})),
        (Box | None, Box(b"abc")),
        (list[Box], [Box(1), Box(b"abc")]),
        (dict[str, Box], {"a": Box((1,))}),
        (tuple[Box, int], (Box((1,)), 1)),
        (OpenStruct, OpenStruct((1, 2))),
        (OpenLine, {"content": (1, 2)}),
        (OpenPair, OpenPair((1, 2))),
        (OpenModel, OpenModel(content=b"abc")),
        (OpenModel, OpenModel(content=(1, 2))),
        (Node, Node(next=Node(next=Node((1, 2))))),
        (Place, Villa("a")),
        (list[Place], [Villa("a")]),
        (Line, {"sku": UUID(int=7), "count": 1, "colour": "red"}),
        (Place, {"name": "a", "naem": "b"}),
        (float, 2**53 + 1),
        (list[float], [2**53 + 1]),
        (dict[int | str, int], {1: 1, "1": 2}),
        (dict[int | str, int], {1: 1}),
        (datetime, datetime(1900, 1, 1, tzinfo=AMSTERDAM)),
        (list[datetime], [datetime(1900, 1, 1, tzinfo=AMSTERDAM)]),
        (dict[datetime, int], {datetime(1900, 1, 1, tzinfo=AMSTERDAM): 1}),
        (set[datetime], {datetime(1900, 1, 1, tzinfo=AMSTERDAM)}),
        (Place, Place("a", at=datetime(1900, 1, 1, tzinfo=AMSTERDAM))),
        (time, time(1, 2, tzinfo=AMSTERDAM)),
        (list[time], [time(1, 2, tzinfo=timezone(timedelta(microseconds=1)))]),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(DispatchError, match=r"One cannot be dispatched: value = .* would come back as .*Nothing"):
        encode_data(one_field(kind)(value=value))


NIGHT_OF_TWO_HALF_PAST_TWO = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Box, Box({"a": [1, 2.5, None, True, "b", {}]}, {"c": [[]]})),
        (Node, Node([1], Node(None, Node("a")))),
        (OpenLine, {"content": {"a": [1]}}),
        (OpenModel, OpenModel(content={"a": [1]})),
        (list[Box], [Box("a")]),
        (Place, Place("a", datetime(1900, 1, 1, tzinfo=timezone(timedelta(minutes=20))), {"b", "c"})),
        (float, 2**53),
        (list[float], [1, 2.5]),
        (set[tuple[int, str]], {(number, "a") for number in range(50)}),
        (list[set[str]], [{str(number) for number in range(50)}]),
        (dict[int, int], {1: 1, 2: 2}),
        (Annotated[Any, msgspec.Meta(description="whatever there is")], (b"abc", {1})),
    ],
)
def test_what_a_type_leaves_open_comes_back_where_json_can_hold_it(kind: Any, value: Any) -> None:
    assert round_trip(one_field(kind)(value=value)).value == value


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(("kind", "wrap"), [(datetime, lambda at: at), (Place, lambda at: Place("a", at)), (Any, list)])
def test_a_moment_in_the_hour_that_comes_twice_is_the_same_moment(kind: Any, wrap: Any, fold: int) -> None:
    at = NIGHT_OF_TWO_HALF_PAST_TWO.replace(fold=fold)
    read = round_trip(one_field(kind)(value=[at] if wrap is list else wrap(at))).value
    found = read[0] if wrap is list else getattr(read, "at", read)
    assert found.astimezone(UTC) == at.astimezone(UTC)


def test_a_decimal_that_is_no_number_comes_back() -> None:
    for text in ("NaN", "sNaN", "-Infinity"):
        assert str(round_trip(one_field(dict[str, Decimal | None])(value={"a": Decimal(text)})).value["a"]) == text


@pytest.mark.parametrize(
    ("kind", "given_value", "read"),
    [
        (float, 1, 1.0),
        (list[int], (1, 2), [1, 2]),
        (set[int], [1, 1], {1}),
        (bytes, bytearray(b"a"), b"a"),
        (UUID, str(UUID(int=7)), UUID(int=7)),
        (datetime, "2026-01-02T00:00:00Z", datetime(2026, 1, 2, tzinfo=UTC)),
        (Colour, "red", Colour.RED),
        (Place, {"name": "a"}, Place("a")),
        (list[Place], [{"name": "a"}, Place("b")], [Place("a"), Place("b")]),
        (Box, {"content": [1]}, Box([1])),
        (set[UUID], [str(UUID(int=each)) for each in (9, 7, 9)], {UUID(int=7), UUID(int=9)}),
        (dict[UUID, float], {str(UUID(int=7)): 1}, {UUID(int=7): 1.0}),
        (Decimal, 1.1, Decimal("1.1")),
        (list[Decimal], ["1.10", 2], [Decimal("1.10"), Decimal(2)]),
    ],
    ids=str,
)
def test_a_value_that_says_the_same_in_another_type_becomes_the_declared_one(
    kind: Any, given_value: Any, read: Any
) -> None:
    found = round_trip(one_field(kind)(value=given_value)).value
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (float, lambda value: value),
        (float | None, lambda value: value),
        (list[float | None], lambda value: [1.0, value]),
        (dict[str, float | None], lambda value: {"a": value}),
        (tuple[float | None, ...], lambda value: (value,)),
        (set[float | None], lambda value: {value}),
        (Point, lambda value: Point(value)),
        (list[Point], lambda value: [Point(1.0), Point(value)]),
        (Size, lambda value: Size(1, value)),
        (Reading, lambda value: Reading(value=value, taken=datetime(2026, 1, 1, tzinfo=UTC))),
    ],
    ids=["float", "optional", "list", "dict", "tuple", "set", "dataclass", "dataclasses", "struct", "model"],
)
def test_a_float_that_json_cannot_hold_is_refused_and_not_changed(kind: Any, wrap: Any, value: float) -> None:
    with pytest.raises(DispatchError, match=rf"value\S* is {value}, which JSON cannot hold"):
        encode_data(one_field(kind)(value=wrap(value)))


def test_nan_where_the_type_leaves_it_open_comes_back() -> None:
    assert math.isnan(round_trip(one_field(Any)(value=math.nan)).value)
    assert round_trip(one_field(dict[str, Any])(value={"a": math.inf})).value == {"a": math.inf}


def test_the_word_null_in_a_text_is_no_infinity() -> None:
    assert round_trip(one_field(str)(value="null")).value == "null"


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (Any, b"abc"),
        (Any, (1, 2)),
        (dict[str, Any], {"a": {1}}),
        (list[Any], [1]),
        (list[int], [1]),
        (Point, Point(1.0)),
    ],
    ids=str,
)
def test_a_field_newer_than_the_payload_has_its_default(kind: Any, default: Any) -> None:
    cls = one_field(kind, value=default)
    assert decode_data(cls, b"{}").value == default  # type: ignore[attr-defined]
    assert round_trip(cls()).value == default


def test_defaults_read_from_two_payloads_are_not_shared() -> None:
    cls = one_field(dict[str, Any], value={"a": [1]})
    one: Any = decode_data(cls, b"{}")
    one.value["a"].append(2)
    assert decode_data(cls, b"{}").value == {"a": [1]}  # type: ignore[attr-defined]


def test_a_field_that_the_class_no_longer_has_is_left_out() -> None:
    assert vars(decode_data(one_field(int), b'{"value": 7, "old": 1}')) == {"value": 7}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"{}", b'{"value": "a"}', b'{"value": null}', b'{"value": 1} x', b'{"value": "\xff"}'],
)
def test_data_that_does_not_fit_the_class_is_an_error_that_names_it(data: bytes) -> None:
    with pytest.raises(EnvelopeError, match=rf"do not fit {__name__}\.One as it is now"):
        decode_data(one_field(int), data)


def test_an_attribute_that_is_not_declared_is_refused() -> None:
    job: Any = one_field(int)(value=1)
    job.valeu = 2
    with pytest.raises(DispatchError, match="it has the attribute valeu, which the class does not declare"):
        encode_data(job)


def test_options_and_private_attributes_are_no_data() -> None:
    job: Any = one_field(int)(value=1)
    job.queue, job.max_tries, job.job_id, job._cache = "a", 1, "b", object()
    assert encode_data(job) == b'{"value":1}'


def test_a_field_that_was_deleted_is_an_error_that_names_it() -> None:
    job: Any = one_field(int)(value=1)
    del job.value
    with pytest.raises(DispatchError, match="value"):
        encode_data(job)


def test_values_may_be_changed_between_construction_and_dispatch() -> None:
    job: Any = one_field(int)(value=1)
    job.value = 2
    assert round_trip(job).value == 2


def test_inherited_fields_travel() -> None:
    class Base(Job):
        a: int

    class Child(Base):
        b: bytes = b""

    assert vars(round_trip(Child(a=1, b=b"\xff"))) == {"a": 1, "b": b"\xff"}


# ── plain attributes ─────────────────────────────────────────────────────────────────────────────────────


class Welcome(Job):
    def __init__(self) -> None:
        super().__init__()
        self.user_id: Any = None
        self._connection = object()


class NeedsUser(Job):
    def __init__(self, user_id: int, *, note: str) -> None:
        super().__init__()
        self.user_id = user_id
        self.note = note


class Bare(Job):
    pass


@deep
@given(plain)
def test_pitfall_35_plain_attributes_come_back_as_they_were(value: Any) -> None:
    job = Welcome()
    job.user_id = value
    read = round_trip(job).user_id
    assert (read, type(read)) == (value, type(value))


def test_an_attribute_that_the_constructor_does_not_know_travels_too() -> None:
    job: Any = Bare()
    job.user_id = 7
    assert vars(round_trip(job)) == {"user_id": 7}


def test_a_plain_job_is_made_by_its_constructor_so_that_newer_attributes_exist() -> None:
    job: Any = decode_data(Welcome, b"{}")
    assert job.user_id is None
    assert job._connection is not None


def test_a_plain_job_whose_constructor_needs_something_comes_back_without_it() -> None:
    assert vars(round_trip(NeedsUser(7, note="a"))) == {"user_id": 7, "note": "a"}


def test_a_constructor_that_raises_is_an_error_that_names_the_class() -> None:
    class Moody(Job):
        def __init__(self) -> None:
            raise OSError("no weather today")

    with pytest.raises(EnvelopeError, match="Moody as it is now: no weather today"):
        decode_data(Moody, b"{}")


def test_an_attribute_that_cannot_be_stored_is_named() -> None:
    job = Welcome()
    job.user_id = {"owner": object()}
    with pytest.raises(DispatchError, match=r"its attribute user_id: .* declare the attribute as a typed field"):
        encode_data(job)


@pytest.mark.parametrize("style", [Welcome, one_field(Any)])
def test_a_value_that_holds_itself_is_refused(style: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    job: Any = style() if style is Welcome else style(value=loop)
    setattr(job, "user_id" if style is Welcome else "value", loop)
    with pytest.raises(DispatchError, match="recursion"):
        encode_data(job)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": {"$class": "os.system"}}', b'{"a": {"$bytes": "*"}}', b'{"a"'])
def test_plain_data_that_cannot_be_read_is_an_error_that_names_the_class(data: bytes) -> None:
    with pytest.raises(EnvelopeError, match=r"do not fit .*Bare as it is now"):
        decode_data(Bare, data)


@pytest.mark.parametrize("style", [Welcome, one_field(Any)], ids=["plain", "declared"])
@pytest.mark.parametrize(
    ("wrap", "most"),
    [
        (lambda value: [value], 199),
        (lambda value: {"a": value}, 199),
        (lambda value: (value,), 99),  # each is two levels of JSON
        (lambda value: {1: value}, 66),  # each is three
    ],
    ids=["list", "dict", "tuple", "dict by number"],
)
def test_what_is_nested_too_deep_for_whoever_reads_it_is_refused(style: Any, wrap: Any, most: int) -> None:
    def data_of(levels: int) -> bytes:
        value: Any = 1
        for _ in range(levels):
            value = wrap(value)
        job = style() if style is Welcome else style(value=None)
        setattr(job, "user_id" if style is Welcome else "value", value)
        return encode_data(job)

    def read_far_down(calls: int) -> Job:
        return read_far_down(calls - 1) if calls else decode_data(style, data_of(most))

    with pytest.raises(DispatchError, match="nested too deep: 200 levels"):
        data_of(most + 1)
    read_far_down(300)


def test_brackets_in_a_text_are_no_levels() -> None:
    assert round_trip(one_field(list[str])(value=["[{" * 500])).value == ["[{" * 500]
