"""Whether a declared field comes back as the value that was put in: what would not is refused when it is dispatched.

JSON and msgspec change some values without a word. A part that a type leaves open (`Any` in a dataclass) holds what
JSON can say, no bytes and no tuple; an instance of a subclass comes back as its declared class, a time zone in whole
minutes, an integer in a float field as the nearest float. What merely says the same in another type (a tuple where
there is to be a list, the text of a UUID) becomes the declared one, as it should.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from reprlib import repr as shortened
from typing import Any

import msgspec
from msgspec import inspect

_FAITHFUL = (
    inspect.IntType,
    inspect.StrType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.BytesType,
    inspect.ByteArrayType,
    inspect.DateType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.ListType,
    inspect.VarTupleType,
    inspect.TupleType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.Metadata,
)
"""Types whose values come back as they were, as far as those inside them do."""

_encode = msgspec.json.Encoder().encode


class ReadBack:
    """The fields of one class that may come back as something else."""

    def __init__(self, kinds: Mapping[str, Any], read_foreign: Callable[[Any, Any], Any]) -> None:
        """`kinds` are the types by field; `read_foreign` is what reads those that msgspec does not know."""
        infos = {name: inspect.type_info(kind) for name, kind in kinds.items()}
        self.fields = tuple(name for name, info in infos.items() if not _is_faithful(info))
        self._equal_is_same = {name for name, info in infos.items() if not _holds_times(info)}
        self._partly_open = {name: kinds[name] for name, info in infos.items() if _is_partly_open(info)}
        self._read_foreign = read_foreign

    def require(self, own: Mapping[str, Any], given: Mapping[str, Any], read: Any, again: Mapping[str, Any]) -> None:
        """Raises ValueError for a field of `read` that is not what was put in.

        `own` are the job's values and `given` the same in builtins; `read` is what came out, and `again` that in
        builtins.
        """
        for name in self.fields:
            if name in self._equal_is_same and _is_equal(given[name], again[name]):
                continue
            if not _is_same(given[name], again[name]):
                raise _altered(name, own[name], getattr(read, name))
        for name, kind in self._partly_open.items():
            declared = msgspec.convert(own[name], kind, dec_hook=self._read_foreign)
            if not _is_identical(declared, getattr(read, name)):
                raise _altered(name, own[name], getattr(read, name))


def leaves_open(info: Any) -> bool:
    """Whether a type, or one inside it that is no class with fields, is `Any`."""
    return any(isinstance(each, inspect.AnyType) for each in _inside(info, with_fields=False))


def _is_faithful(info: Any) -> bool:
    return all(isinstance(each, _FAITHFUL) for each in _inside(info))


def _is_partly_open(info: Any) -> bool:
    return any(isinstance(each, inspect.AnyType | inspect.CustomType) for each in _inside(info))


def _holds_times(info: Any) -> bool:
    """Python takes two times for equal whose zones differ by less than a minute."""
    return any(isinstance(each, inspect.TimeType) for each in _inside(info))


def _inside(info: Any, *, with_fields: bool = True) -> Iterator[Any]:
    """A type and all those inside it, each once, as one may hold its like."""
    seen: set[int] = set()
    waiting = [info]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += _parts(each, with_fields=with_fields)


def _parts(info: Any, *, with_fields: bool) -> list[Any]:
    single = [getattr(info, name, None) for name in ("type", "item_type", "key_type", "value_type")]
    many = [*getattr(info, "item_types", ()), *getattr(info, "types", ())]
    fields = [each.type for each in getattr(info, "fields", ())] if with_fields else []
    return [each for each in (*single, *many, *fields) if each is not None]


def _is_same(given: Any, read: Any) -> bool:
    """Whether two values in builtins say the same. What a class has in addition, by default, is no difference."""
    if isinstance(given, dict) and isinstance(read, dict):
        return _is_same_dict(given, read)
    if isinstance(given, list | tuple) and isinstance(read, list | tuple):
        return _is_same_list(given, read)
    if isinstance(given, datetime | time) and isinstance(read, datetime | time):
        return _wall(given) == _wall(read)  # two zones never have the hour in common that comes twice in autumn
    if isinstance(read, Decimal):
        return not isinstance(given, Decimal) or str(given) == str(read)  # no NaN is equal to another
    if isinstance(given, str) and not isinstance(read, str):
        return True  # what stands for it in JSON
    return _is_equal(given, read)


def _is_equal(given: Any, read: Any) -> bool:
    try:
        return bool(given == read)
    except ArithmeticError:  # a Decimal that is a signalling NaN
        return False


def _is_same_dict(given: dict[Any, Any], read: dict[Any, Any]) -> bool:
    lost = given.keys() - read.keys()
    if not lost:
        return all(_is_same(each, read[key]) for key, each in given.items())
    # Keys that were given as text are read as what they stand for.
    return (
        len(given) == len(read)
        and all(isinstance(key, str) for key in lost)
        and not any(isinstance(key, str) for key in read.keys() - given.keys())
        and all(map(_is_same, given.values(), read.values()))
    )


def _is_same_list(given: Sequence[Any], read: Sequence[Any]) -> bool:
    if len(given) == len(read) and all(map(_is_same, given, read)):
        return True
    # A set: in an order of its own, and without what was there twice.
    mine, theirs = ({_encode(each): each for each in values} for values in (given, read))
    return mine.keys() == theirs.keys() and all(_is_same(each, theirs[key]) for key, each in mine.items())


def _wall(moment: datetime | time) -> tuple[Any, Any]:
    return moment.replace(tzinfo=None), moment.utcoffset()


def _is_identical(given: Any, read: Any) -> bool:
    """Whether two values have the same types all the way down; those in JSON's terms were compared by `_is_same`."""
    if type(given) is not type(read):
        return False
    if isinstance(given, dict):
        return given.keys() == read.keys() and all(_is_identical(each, read[key]) for key, each in given.items())
    if isinstance(given, list | tuple):
        return len(given) == len(read) and all(map(_is_identical, given, read))
    parts = _fields_of(given)
    if parts is None:
        return _is_same(given, read)
    return all(_is_identical(getattr(given, each), getattr(read, each)) for each in parts)


def _fields_of(value: Any) -> Sequence[str] | None:
    if dataclasses.is_dataclass(value):
        return [each.name for each in dataclasses.fields(value)]
    fields = getattr(value, "__struct_fields__", None) or getattr(type(value), "model_fields", None)
    return None if fields is None else list(fields)


def _altered(name: str, given: Any, read: Any) -> ValueError:
    return ValueError(f"{name} = {shortened(given)} would come back as {shortened(read)}; give it a type that holds it")
