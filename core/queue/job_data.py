"""A job's own values, as JSON and back.

Declared fields are written and validated by msgspec according to their types. A field whose type leaves
something open (`Any`, a bare `dict`), and every plain attribute, is written by `plain_values`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from inspect import Parameter, signature
from typing import Any
from uuid import UUID

import msgspec

from core.errors import DispatchError, EnvelopeError
from core.job import RESERVED, Job, declared_fields, job_name
from core.queue import plain_values
from core.queue.read_back import ReadBack, leaves_open

_BYTES = (bytes, bytearray, memoryview)
_encode = msgspec.json.Encoder().encode
_NATIVE = (*_BYTES, datetime, date, time, timedelta, UUID, Decimal)
_MAX_LEVELS = 200
"""Of JSON. To read one back takes up to two calls within each other, of the thousand that Python has: no more than
half of those, whatever has called the worker."""


def encode_data(job: Job) -> bytes:
    """The values of a job. Raises DispatchError, which names the job and what cannot be stored."""
    try:
        codec = _codec(type(job))
        return codec.encode(job) if codec else _refuse_deep(_encode_plain(job))
    except (TypeError, ValueError, NameError, AttributeError, RecursionError, msgspec.MsgspecError) as error:
        raise DispatchError(f"{job_name(type(job))} cannot be dispatched: {error}. Nothing was stored.") from error


def values_of(job: Job) -> dict[str, Any]:
    """The values of a job that `encode_data` takes."""
    codec = _codec(type(job))
    return {name: getattr(job, name) for name in codec.names} if codec else _attributes(job)


def decode_data(cls: type[Job], data: bytes) -> Job:
    """A job of `cls` with these values. Raises EnvelopeError where they do not fit the class."""
    try:
        codec = _codec(cls)
        return codec.decode(data) if codec else _decode_plain(cls, data)
    except Exception as error:
        raise EnvelopeError(f"the stored values do not fit {job_name(cls)} as it is now: {error}") from error


@dataclass(frozen=True)
class _Codec:
    """Writes and reads the declared fields of one class."""

    cls: type[Job]
    names: tuple[str, ...]
    open_types: dict[str, Any]
    """Fields that plain_values writes, with their types."""
    decoder: msgspec.json.Decoder[Any]
    read_back: ReadBack
    expected: dict[str, frozenset[type]] | None
    """Where each field is a number, text or the like: the types that its value may have."""
    plain: dict[tuple[type, ...], bool]
    """Types of values, in the order of the fields, that need no other check, which takes longer than all the rest;
    and whether one of them is a float, which may be infinite."""

    def encode(self, job: Job) -> bytes:
        own = vars(job)
        if tuple(own) != self.names:  # it has options of its own, or lacks a field that its class has
            if extra := own.keys() - self.names:
                _refuse_undeclared(extra)
            own = {name: getattr(job, name) for name in self.names}
        types = tuple(map(type, own.values()))
        if types not in self.plain and not self._learn(types):
            return self._encode_checked(own)
        data = _encode(own)
        return self._encode_checked(own) if self.plain[types] and b"null" in data else data

    def _learn(self, types: tuple[type, ...]) -> bool:
        """Whether values of these types are as expected."""
        expected = self.expected
        if expected is None or not all(kind in expected[name] for name, kind in zip(self.names, types, strict=True)):
            return False
        self.plain[types] = float in types
        return True

    def _encode_checked(self, own: dict[str, Any]) -> bytes:
        values = dict(own)
        for name, kind in self.open_types.items():
            msgspec.convert(values[name], kind, dec_hook=_read_foreign)
            values[name] = plain_values.to_json(values[name])
        wire = _builtins(values)
        # In JSON, bytes and datetimes look like text: here they are still told apart.
        msgspec.convert(wire, self.decoder.type, builtin_types=_BYTES, dec_hook=_read_foreign)
        data = _encode(wire)
        if b"null" in data:
            _refuse_infinite(wire)
        read = self.decoder.decode(data)
        if self.read_back.fields:
            again = _builtins({each: getattr(read, each) for each in self.read_back.fields})
            self.read_back.require(own, wire, read, again)
        return _refuse_deep(data)

    def decode(self, data: bytes) -> Job:
        job = self.cls.__new__(self.cls)
        values = msgspec.structs.asdict(self.decoder.decode(data))
        for name, kind in self.open_types.items():
            values[name] = msgspec.convert(plain_values.from_json(values[name]), kind, dec_hook=_read_foreign)
        vars(job).update(values)
        return job


def _codec(cls: type[Job]) -> _Codec | None:
    try:
        return _codecs[cls]
    except KeyError:
        return _codecs.setdefault(cls, _make_codec(cls))


_codecs: dict[type[Job], _Codec | None] = {}


def _make_codec(cls: type[Job]) -> _Codec | None:
    fields = declared_fields(cls)
    if fields is None:
        return None
    infos = msgspec.structs.fields(fields)
    open_types = {info.name: info.type for info in infos if leaves_open(msgspec.inspect.type_info(info.type))}
    closed_types = {info.name: info.type for info in infos if info.name not in open_types}
    wire = msgspec.defstruct(cls.__name__, [_wire_field(info, open_types) for info in infos], kw_only=True)
    decoder = msgspec.json.Decoder(wire, dec_hook=_read_foreign)
    read_back = ReadBack(closed_types, _read_foreign)
    return _Codec(cls, tuple(info.name for info in infos), open_types, decoder, read_back, _expected(infos), {})


_PLAIN = (
    (msgspec.inspect.IntType(), frozenset({int})),
    (msgspec.inspect.FloatType(), frozenset({float})),
    (msgspec.inspect.StrType(), frozenset({str})),
    (msgspec.inspect.BoolType(), frozenset({bool})),
    (msgspec.inspect.NoneType(), frozenset({type(None)})),
)
"""Types without a constraint of their own, and those of the values that JSON holds as they are."""


def _expected(infos: Sequence[msgspec.structs.FieldInfo]) -> dict[str, frozenset[type]] | None:
    found = {info.name: _types_of(msgspec.inspect.type_info(info.type)) for info in infos}
    return found if all(found.values()) else None


def _types_of(info: msgspec.inspect.Type) -> frozenset[type]:
    """The types of values that need no other check; none where there is more to a field."""
    if isinstance(info, msgspec.inspect.UnionType):
        parts = [_types_of(each) for each in info.types]
        return frozenset().union(*parts) if all(parts) else frozenset()
    return next((types for plain, types in _PLAIN if info == plain), frozenset())


def _wire_field(info: msgspec.structs.FieldInfo, open_types: dict[str, Any]) -> tuple[str, Any, Any]:
    if info.name in open_types and not info.required:
        return info.name, Any, msgspec.field(default_factory=lambda: plain_values.to_json(_default_of(info)))
    kind = Any if info.name in open_types else info.type
    if info.default_factory is not msgspec.NODEFAULT:
        return info.name, kind, msgspec.field(default_factory=info.default_factory)
    return info.name, kind, info.default


def _default_of(info: msgspec.structs.FieldInfo) -> Any:
    return info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory()


def _builtins(values: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON will have them, but for those that are text there and something else here."""
    found: dict[str, Any] = msgspec.to_builtins(values, builtin_types=_NATIVE, enc_hook=_write_foreign)
    return found


def _write_foreign(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # pydantic, which core need not import for it
        return value.model_dump(mode="json")
    raise TypeError(f"{value!r} is a {type(value).__qualname__}, which cannot be stored as JSON")


def _read_foreign(kind: Any, value: Any) -> Any:
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    raise TypeError(f"fields of type {kind!r} cannot be stored as JSON")


def _refuse_undeclared(names: Any) -> None:
    extra = sorted(name for name in names - RESERVED if not name.startswith("_"))
    if extra:
        raise TypeError(f"it has the attribute {', '.join(extra)}, which the class does not declare")


def _refuse_infinite(value: Any, path: str = "") -> None:
    """JSON has no NaN and no infinity, and msgspec writes null for them: better refused than changed."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path or 'a value'} is {value}, which JSON cannot hold")
    if isinstance(value, dict):
        for key, each in value.items():
            _refuse_infinite(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            _refuse_infinite(each, path)


def _refuse_deep(data: bytes) -> bytes:
    """What is written in a program may still be too deep for the one that reads it, further down in its calls."""
    if data.count(b"[") + data.count(b"{") > _MAX_LEVELS and _levels(msgspec.json.decode(data)) > _MAX_LEVELS:
        raise ValueError(f"its values are nested too deep: {_MAX_LEVELS} levels of JSON are allowed")
    return data


def _levels(value: Any) -> int:
    levels, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, dict | list)]:
        levels += 1
        layer = [inner for each in layer for inner in (each.values() if isinstance(each, dict) else each)]
    return levels


def _encode_plain(job: Job) -> bytes:
    return _encode({name: _plain_json(name, value) for name, value in _attributes(job).items()})


def _plain_json(name: str, value: Any) -> Any:
    try:
        return plain_values.to_json(value)
    except TypeError as error:
        raise TypeError(f"its attribute {name}: {error}") from error


def _attributes(job: Job) -> dict[str, Any]:
    return {name: value for name, value in vars(job).items() if name not in RESERVED and not name.startswith("_")}


def _decode_plain(cls: type[Job], data: bytes) -> Job:
    values = msgspec.json.decode(data, type=dict[str, Any])
    job = _blank(cls)
    vars(job).update({name: plain_values.from_json(value) for name, value in values.items()})
    return job


def _blank(cls: type[Job]) -> Job:
    """A job as its own constructor makes it, so that attributes newer than the payload have their defaults."""
    needed = [each for each in signature(cls).parameters.values() if _is_needed(each)]
    return cls.__new__(cls) if needed else cls()


def _is_needed(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )
