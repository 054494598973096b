"""`Job.version`: data that another version of a class has stored."""

from __future__ import annotations

from typing import Any

import msgspec

from core.errors import EnvelopeError, JobVersionError
from core.job import Job, job_name

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def upgraded_data(cls: type[Job], data: bytes, version: int) -> bytes:
    """Data of an older version, as `cls` wants it today.

    Raises JobVersionError for that of a newer one, and EnvelopeError where `upgrade` fails.
    """
    if version > cls.version:
        raise JobVersionError(
            f"The job was dispatched by version {version} of {job_name(cls)}; this worker has version {cls.version}. "
            "Deploy the newer one to this worker. A job whose tries are used up by then is in --queue-failed, from "
            "where --queue-retry brings it back.",
            cls.__new__(cls),
        )
    try:
        return _encode(_checked(cls.upgrade(_decode(data), version)))
    except Exception as error:
        raise EnvelopeError(
            f"upgrade() of {job_name(cls)} cannot make what version {version} stored fit version {cls.version}: "
            f"{error!r}"
        ) from error


def _checked(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"it returned a {type(data).__qualname__}, not the data")
    return data
