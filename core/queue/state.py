"""What a stored job is made of, and the states it goes through.

    scheduled ──due──▶ available ──fetch──▶ executing ──complete──▶ (gone)
                           ▲                  │  │
                           │◀──release, rescue┘  ├──retry──▶ retryable ──due──▶ available
                           │                     └──fail───▶ failed (failed_jobs) ──retried by hand──▶ available

scheduled   stored with a due time that has not come, or behind a job of the same ordering key that has not ended.
available   may be fetched; a queue is fetched first in, first out.
executing   held by one worker under a lease; the try was counted when it was fetched.
retryable   a try failed; due again after its retry delay.
completed   done: nothing of it is kept.
failed      out of tries, or its error was permanent: a row of failed_jobs, from which it can be retried.

These values are structs of msgspec's: several are made for each job, and a frozen dataclass takes six times as long.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class NewJob(Struct, frozen=True, gc=False):
    """A job on its way into a store."""

    job_id: str
    """UUIDv7, made by the dispatcher."""
    queue: str
    payload: bytes
    """The envelope: JSON in UTF-8."""
    delay: float = 0.0
    """Seconds from now, by the store's clock, until it may be fetched."""
    ordering_key: str | None = None
    """Jobs of a queue with the same key are executed one at a time, in the order in which they were pushed."""
    unique_key: str | None = None
    """Of jobs of a queue with the same key, only the first is stored within `unique_for` seconds of its push."""
    unique_for: float = 0.0


class Lease(Struct, frozen=True, gc=False):
    """The right to report on one try of a job. A later fetch of the same job carries another token."""

    job_id: str
    queue: str
    token: str
    turn: str | None = None
    """What the driver calls the turn that ends with this job, where it has an ordering key and the driver asks."""


class FetchedJob(Struct, frozen=True, gc=False):
    """A job under a lease."""

    job_id: str
    queue: str
    payload: bytes
    attempts: int
    """How often it was started, this try included."""
    token: str
    turn: str | None = None
    """As in its lease."""

    @property
    def lease(self) -> Lease:
        return Lease(self.job_id, self.queue, self.token, self.turn)


class Retry(Struct, frozen=True):
    """Ends a try: the job becomes due again after `delay` seconds."""

    lease: Lease
    delay: float


class Failure(Struct, frozen=True):
    """Why a job was given up: what becomes its row of failed_jobs."""

    job_id: str
    queue: str
    job: str
    """The name of its class, or "" where the payload does not tell."""
    payload: bytes
    """As it was dispatched."""
    exception: str
    """The whole traceback."""
    attempts: int


class FailedJob(Struct, frozen=True):
    """A row of failed_jobs."""

    id: int
    job_id: str
    connection: str
    queue: str
    job: str
    payload: bytes
    exception: str
    attempts: int
    failed_at: datetime
    """UTC, aware."""


class QueueStats(Struct, frozen=True):
    queue: str
    available: int = 0
    scheduled: int = 0
    executing: int = 0
    retryable: int = 0
    failed: int = 0
    oldest_seconds: float = 0.0
    """How long the job that waits longest has been available; 0 where none waits."""
