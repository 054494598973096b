"""The envelope: a job as a store holds it. JSON, with a version of its own.

    {"v": 1, "id": "0190…", "job": "app.jobs.send_email.SendEmail", "queue": "emails",
     "dispatched_at": "2026-11-22T10:00:00.000001Z", "data": {"to": "a@example.com"}}

`options` appears where an instance overrides its class (`job.max_tries = 1`), `version` where that of the class is
above 1, `ordering_key` where the job has one.

An envelope is written in the lowest version whose readers do right by it: those of version 1 pass over what they do not
know, so a job whose data another version of its class would misread, or whose turn would not be kept, is of version 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

import msgspec

from core.clock import CENTURY
from core.errors import DispatchError, EnvelopeError, EnvelopeVersionError
from core.job import OF_THE_CLASS, OPTIONS, Job, job_name
from core.queue.job_data import decode_data, encode_data
from core.queue.job_version import upgraded_job
from core.queue.registry import JobRegistry

VERSION = 2
"""The newest that is read."""

_NO_MOMENT = datetime.min.replace(tzinfo=UTC)
_TOLD = OF_THE_CLASS.union(OPTIONS)


class Envelope(msgspec.Struct, omit_defaults=True):
    v: int
    id: str
    job: str
    queue: str
    dispatched_at: datetime
    data: msgspec.Raw
    options: dict[str, int | float] = {}
    ordering_key: str | None = None
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    """That of the class."""


class _Version(msgspec.Struct):
    v: int


class _Name(msgspec.Struct):
    job: str


class _OrderingKey(msgspec.Struct):
    ordering_key: str | None = None


_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What a decoder raises: some errors of UTF-8 are ValueErrors of Python's, and JSON can nest too deeply."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)
_version_decoder = msgspec.json.Decoder(_Version)
_name_decoder = msgspec.json.Decoder(_Name)
_ordering_key_decoder = msgspec.json.Decoder(_OrderingKey)


def write_envelope(job: Job, job_id: str, queue: str, now: datetime, ordering_key: str | None = None) -> bytes:
    """A job as a payload. Raises DispatchError where something of it cannot be stored."""
    data = msgspec.Raw(encode_data(job))
    name = _dispatchable_name(type(job))  # type: ignore[arg-type]  # mypy takes the class for one of its jobs
    envelope = Envelope(1, job_id, name, queue, now, data)
    version = type(job).version
    if ordering_key is not None or version > 1:
        envelope.v, envelope.ordering_key, envelope.version = 2, ordering_key, version
    own = vars(job)
    if not _TOLD.isdisjoint(own):
        envelope.options = _own_options(job, own)
    return _encoder.encode(envelope)


def read_envelope(payload: bytes) -> Envelope:
    """Read a payload. Raises EnvelopeError, or EnvelopeVersionError if a newer RouteMQ wrote it."""
    try:
        envelope = _decoder.decode(payload)
    except _UNREADABLE as error:
        _check_version(_version_of(payload))  # that it is newer explains it better
        raise EnvelopeError(f"The payload is no whole envelope: {error}.") from error
    _check_version(envelope.v)
    return envelope


def without_identity(payload: bytes) -> bytes:
    """A payload but for what tells its dispatch from another one of the same job. Raises as `read_envelope`."""
    envelope = read_envelope(payload)
    envelope.id, envelope.dispatched_at = "", _NO_MOMENT
    return _encoder.encode(envelope)


def load_job(envelope: Envelope, registry: JobRegistry) -> Job:
    """The job in an envelope.

    Raises UnknownJobError, JobVersionError, or EnvelopeError if its values do not fit the class.
    """
    cls, data = registry.find(envelope.job), bytes(envelope.data)
    is_of_today = envelope.version == cls.version
    job = decode_data(cls, data) if is_of_today else upgraded_job(cls, data, envelope.version)
    if envelope.options:
        vars(job).update(_stored_options(job, envelope.options))
    job.job_id = envelope.id
    return job


def job_of(payload: bytes) -> str:
    """The class name in a payload, or "" where it cannot be told."""
    try:
        return _name_decoder.decode(payload).job
    except _UNREADABLE:
        return ""


def ordering_key_of(payload: bytes) -> str | None:
    """The ordering key in a payload; None where it has none, or that cannot be told."""
    try:
        return _ordering_key_decoder.decode(payload).ordering_key
    except _UNREADABLE:
        return None


def _version_of(payload: bytes) -> int:
    try:
        return _version_decoder.decode(payload).v
    except _UNREADABLE as error:
        raise EnvelopeError(f"The payload is no envelope: {error}.") from error


def _check_version(version: int) -> None:
    if version > VERSION:
        raise EnvelopeVersionError(
            f"The payload has envelope version {version}; this RouteMQ reads versions up to {VERSION}. "
            f"Bring this worker up to date, then run `python main.py --queue-retry` with this job's id."
        )


@cache
def _dispatchable_name(cls: type[Job]) -> str:
    if cls.__module__ == "__main__":
        raise DispatchError(
            f"{cls.__qualname__} is defined in the program that was started, where no worker can find it; "
            f"move it into a module of the app's jobs/."
        )
    return job_name(cls)


def _own_options(job: Job, own: dict[str, Any]) -> dict[str, int | float]:
    for name in OF_THE_CLASS.intersection(own):
        raise DispatchError(
            f"{job_name(type(job))} cannot be dispatched: {name!r} is for the class to say, not for one of its jobs. "
            "Set it there; a value of the job's own needs another name. Nothing was stored."
        )
    return {name: _checked_option(job, name, own[name]) for name in OPTIONS if name in own}


def _stored_options(job: Job, stored: Mapping[str, Any]) -> dict[str, int | float]:
    """Checked anew: others may have written them."""
    try:
        return {name: _checked_option(job, name, stored[name]) for name in OPTIONS if name in stored}
    except DispatchError as error:
        raise EnvelopeError(f"the stored options cannot be: {error}") from error


def _checked_option(job: Job, name: str, value: Any) -> float:
    if name == "max_tries":
        usable, wanted = type(value) is int and value > 0, "a whole number from 1"
    else:
        usable, wanted = type(value) in (int, float) and 0 <= value <= CENTURY, "seconds from 0 to a century"
    if not usable:
        raise DispatchError(f"{job_name(type(job))}: {name}={value!r} is not usable; give {wanted}.")
    number: float = value
    return number
