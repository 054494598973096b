"""`Job.version`: data that another version of a class has stored."""

from __future__ import annotations

from typing import Any

import msgspec

from core.errors import EnvelopeError, JobVersionError
from core.job import Job, declared_fields, job_name
from core.queue.job_data import decode_data

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def upgraded_job(cls: type[Job], data: bytes, version: int) -> Job:
    """A job of `cls` as it is today, with what another version of it has stored.

    Raises JobVersionError for that of a newer one, and EnvelopeError where `upgrade` fails or does not make it fit.
    """
    if version > cls.version:
        raise JobVersionError(
            f"The job was dispatched by version {version} of {job_name(cls)}; this worker has version {cls.version}. "
            "Deploy the newer one to this worker. A job whose tries are used up by then is in --queue-failed, from "
            "where --queue-retry brings it back.",
            cls.__new__(cls),
        )
    try:
        upgraded = _encode(_upgraded(cls, _decode(data), version))
    except Exception as error:
        raise EnvelopeError(
            f"upgrade() of {job_name(cls)} cannot make what version {version} stored fit version {cls.version}: "
            f"{error!r}"
        ) from error
    try:
        return decode_data(cls, upgraded)
    except EnvelopeError as error:
        raise EnvelopeError(
            f"What upgrade() of {job_name(cls)} made of what version {version} stored does not fit version "
            f"{cls.version}: {error.__cause__}"
        ) from error


def _upgraded(cls: type[Job], data: dict[str, Any], version: int) -> dict[str, Any]:
    stored = frozenset(data)
    upgraded: object = cls.upgrade(data, version)
    if not isinstance(upgraded, dict):
        raise TypeError(f"it returned a {type(upgraded).__qualname__}, not the data")
    fields = declared_fields(cls)
    # What is left over from the older one is left out, as ever. But a name that it adds, it means.
    if fields and (unknown := upgraded.keys() - stored.union(fields.__struct_fields__)):
        raise TypeError(f"it returned {', '.join(sorted(map(repr, unknown)))}, which the class does not declare")
    return upgraded
