"""What the database driver asks of a dialect. One file per dialect answers, in its own SQL.

Every method runs inside a transaction that the driver opens, on a connection that it hands in, and
changes all that it is given or nothing. Those that end a try return the ids of the jobs whose lease is
current; to the others they do nothing. They are given no job twice, sorted by job id: the order in which
they lock. All of them judge time by the store's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from core.queue.state import FetchedJob, Lease, NewJob, QueueStats, Retry


class Statements(Protocol):
    single: bool
    """Whether each verb below is one statement, atomic without a transaction."""
    chunk_bytes: int
    """Bytes of payload that one `push` writes, unless a single job has more."""

    async def push(self, connection: AsyncConnection, jobs: Sequence[NewJob], tell: Collection[str] = ()) -> None:
        """Insert jobs without keys in their order, as one write. A job id that is there already is left as it is.

        `tell` are queues whose workers are told of it, where the channel said that a push may carry that.
        """

    async def require_room(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
        """Raise PayloadTooLargeError where the server takes no statement that would store one of these jobs."""

    async def now(self, connection: AsyncConnection) -> datetime:
        """The store's clock."""

    async def fetch(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str
    ) -> list[FetchedJob]:
        """Lease the first available jobs for `lease` seconds and count a try; passes by locked rows."""

    async def fetch_again(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str, lost: Sequence[str]
    ) -> list[FetchedJob]:
        """Take over jobs that are leased under the tokens `lost`: as `fetch` does, but without counting a try."""

    async def remove(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        """Delete jobs."""

    async def retry(self, connection: AsyncConnection, retries: Sequence[Retry]) -> set[str]:
        """End leases; each job is due after its delay."""

    async def release(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        """End leases and take the try back; due time and so the place in the queue stay."""

    async def renew(self, connection: AsyncConnection, leases: Sequence[Lease], lease: float) -> set[str]:
        """Let leases end `lease` seconds from now."""

    async def rescue(self, connection: AsyncConnection, queue: str, limit: int) -> int:
        """End leases that ran out, at most `limit`, the oldest first; due time and place stay."""

    async def next_due(self, connection: AsyncConnection, queue: str) -> float | None:
        """Seconds until the next job of a queue that is not due yet."""

    async def is_busy(self, connection: AsyncConnection, queue: str) -> bool:
        """Whether a job of a queue is available or executing: a look or two into the index."""

    async def queues(self, connection: AsyncConnection) -> list[str]:
        """Names of the queues that hold a job, in any order."""

    async def stats(self, connection: AsyncConnection, queue: str) -> QueueStats:
        """Counts per state, `failed` left out. Reads indexes alone."""
