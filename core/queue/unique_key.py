"""What makes two dispatches the same job, for `unique_for`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

import msgspec

from core.errors import DispatchError
from core.job import Job, job_name
from core.queue.job_data import values_of


def unique_key(job: Job, unique_by: object) -> str:
    """The key of a job that can be stored: of its class, and of `unique_by` or else (None) its data.

    Raises DispatchError for a `unique_by` that is no text.
    """
    name = job_name(type(job))
    if unique_by is None:
        return digest(b"data", name.encode(), _encode(_in_order(values_of(job))))
    if not isinstance(unique_by, str) or not unique_by:
        raise DispatchError(f"{name}: unique_by={unique_by!r} is not usable; give a text that is not empty.")
    return digest(b"by", name.encode(), unique_by.encode(errors="surrogatepass"))


def digest(*parts: bytes) -> str:
    """64 characters that no other parts have."""
    found = sha256()
    for part in parts:
        found.update(b"%d:" % len(part))  # lest two parts run into one another
        found.update(part)
    return found.hexdigest()


def _in_order(value: Any) -> Any:
    """A value such that equal ones are written alike: a set has another order in each process."""
    if isinstance(value, dict):
        return sorted(([_in_order(key), _in_order(each)] for key, each in value.items()), key=_encode)
    if isinstance(value, set | frozenset):
        return sorted(map(_in_order, value), key=_encode)
    if isinstance(value, list | tuple):
        return list(map(_in_order, value))
    parts = _parts(value)
    return value if parts is None else _in_order(parts)


def _parts(value: Any) -> dict[str, Any] | None:
    """The fields of a value that has some."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if hasattr(value, "model_dump"):  # pydantic, which core need not import for it
        dumped: dict[str, Any] = value.model_dump()
        return dumped
    return None


_encode = msgspec.json.Encoder(enc_hook=repr).encode
