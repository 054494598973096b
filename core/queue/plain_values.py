"""Values without a declared type, as JSON that can be read back.

JSON itself knows text, numbers, true, false, null, lists and objects. Whatever else plain attributes may
hold is written as an object with one key that begins with `$`: `{"$bytes": "AAEC"}`. Only the types below
can come out of a payload, never a class that the payload names.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})


def to_json(value: Any) -> Any:
    """`value` in terms of JSON. Raises TypeError for a type that could not be read back, or ValueError."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind in _WRITERS:
        return _WRITERS[kind](value)
    raise TypeError(f"{value!r} is a {kind.__qualname__}; declare the attribute as a typed field, or store plain data")


def from_json(value: Any) -> Any:
    """The value that `to_json` was given. Raises ValueError for a mark that is not known."""
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, content),) = value.items()
        if mark.startswith("$"):
            return _read_mark(mark, content)
    return {key: from_json(each) for key, each in value.items()}


def _read_mark(mark: str, content: Any) -> Any:
    if mark not in _READERS:
        raise ValueError(f"a value is marked {mark!r}, which this version does not know")
    return _READERS[mark](content)


def _write_float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _write_moment(mark: str) -> Callable[[Any], Any]:
    def write(value: datetime | time) -> Any:
        offset = value.utcoffset()
        if offset and abs(offset) < timedelta(seconds=1):  # fromisoformat() takes it for UTC
            raise ValueError(f"{value!r} has a time zone of less than a second; convert it to UTC")
        return {mark: value.isoformat()}

    return write


def _write_dict(value: dict[Any, Any]) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: to_json(each) for key, each in value.items()}
    return {"$dict": [[to_json(key), to_json(each)] for key, each in value.items()]}


def _write_many(mark: str) -> Callable[[Any], Any]:
    return lambda value: {mark: [to_json(each) for each in value]}


_WRITERS: dict[type, Callable[[Any], Any]] = {
    float: _write_float,
    list: lambda value: [to_json(each) for each in value],
    dict: _write_dict,
    tuple: _write_many("$tuple"),
    set: _write_many("$set"),
    frozenset: _write_many("$frozenset"),
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    bytearray: lambda value: {"$bytearray": base64.b64encode(value).decode()},
    datetime: _write_moment("$datetime"),
    date: lambda value: {"$date": value.isoformat()},
    time: _write_moment("$time"),
    timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    UUID: lambda value: {"$uuid": str(value)},
    Decimal: lambda value: {"$decimal": str(value)},
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$dict": lambda pairs: {from_json(key): from_json(each) for key, each in pairs},
    "$tuple": lambda values: tuple(from_json(each) for each in values),
    "$set": lambda values: {from_json(each) for each in values},
    "$frozenset": lambda values: frozenset(from_json(each) for each in values),
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$bytearray": lambda text: bytearray(base64.b64decode(text, validate=True)),
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$uuid": UUID,
    "$decimal": Decimal,
}
