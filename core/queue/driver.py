"""The driver contract: what a store must do to hold queues.

Each verb is one atomic change of state per queue, whatever dies in between, and takes a batch. Verbs
that end a try take leases, and change nothing for a lease that is no longer current; they return the
ids of those jobs, so that a late owner is told. Times are judged by the store's clock. Every verb may
be repeated after an error whose outcome is unknown: a repetition changes nothing more. With one exception:
a completed job leaves nothing behind that could tell of it, so a push that was stored, whose answer was lost
and whose job was completed meanwhile stores it again, and it runs twice. Whoever gave up instead of
repeating could only dispatch it under a new id, and have it run twice for certain, or lose it. A unique key is what
is left behind: as long as its `unique_for` is not over, the repetition of such a push stores nothing.

A job with an ordering key has its turn once all those pushed before it with the same key, on the same queue, are gone:
completed, failed or cleared. Until then nobody fetches it, and it counts as scheduled. It keeps its turn through retry,
release and rescue, and while it is scheduled itself. When it has gone, the next becomes available behind those that are
by then, or is scheduled where its own delay is not over. A failed job that is put back stands behind the others of
its key.

A store that cannot be reached raises QueueUnavailableError. tests/contract holds every driver to this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from core.queue.state import FailedJob, Failure, FetchedJob, Lease, NewJob, QueueStats, Retry

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class WakeUp(Protocol):
    """Tells an idle worker that there may be something to fetch. May tell too often, never has to tell."""

    async def wait(self, timeout: float) -> bool:
        """Wait, at most `timeout` seconds, for a job that was pushed, released, rescued or put back by hand
        since the last `wait` returned.

        Returns whether there was one.
        """

    async def close(self) -> None:
        """Give back connection and tasks."""


class FailureStore(Protocol):
    """The failed_jobs table."""

    async def record(
        self, connection: str, failures: Sequence[Failure], *, confirm: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Store failures; one whose job id has a row already replaces it.

        `confirm` is called once they are written and before anyone sees them: what it raises undoes the write.
        """

    async def rows(
        self,
        *,
        limit: int | None = None,
        queue: str | None = None,
        before: FailedJob | None = None,
        payloads: bool = True,
    ) -> list[FailedJob]:
        """The rows, newest first: those that follow `before` in that order, if given, whether or not it is
        still there; and with empty payloads where nobody wants to load them."""

    async def find(self, key: str) -> FailedJob | None:
        """The row whose id or job id is `key`."""

    def take(self, job_ids: Sequence[str]) -> AbstractAsyncContextManager[list[FailedJob]]:
        """Lock these rows and yield those that exist; they are deleted when the block ends without an error.

        A second taker of the same rows waits, and then does not find them.
        """

    async def forget(self, job_ids: Sequence[str]) -> int:
        """Delete the rows of these job ids; returns how many there were."""

    async def flush(self) -> int:
        """Delete every row; returns how many there were."""

    async def prune(self, before: datetime) -> int:
        """Delete the rows that failed before a moment (UTC); returns how many there were."""

    async def count(self, connection: str) -> dict[str, int]:
        """Rows per queue that came from one connection."""


class Driver(Protocol):
    connection: str
    """Its name in settings and in failed_jobs: "redis", "database" or "memory"."""
    failures: FailureStore

    # ── into the store ───────────────────────────────────────────────────────────────────────────────

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        """Store jobs, in order, all or (per queue) none. A job whose id is stored already is left as it is; one
        that was completed is stored no longer, and is pushed like a new one.

        One whose `unique_key` another job was pushed with on its queue is left out, as long as that one's
        `unique_for` is not over, whatever has become of it. Returns, by the ids of those left out, the ids
        of the jobs that stand for them.
        """

    # ── a worker's verbs ─────────────────────────────────────────────────────────────────────────────

    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        """Take up to `limit` available jobs, the first queue first, each queue first in, first out.

        Counts a try and leases each job for `lease` seconds under a token that was never used before. Where that was
        done and the answer got lost, the driver's next fetch from that queue hands the same jobs out, and counts no
        other try.
        """

    async def complete(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        """Remove finished jobs. Returns the ids of those whose lease is not current."""

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        """End tries: each job is due again after its delay, behind those that are available by then."""

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        """Give jobs up: off the queue and into failed_jobs, so that a crash loses neither."""

    async def release(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        """Hand jobs back untried: available at once, ahead of the others, the try uncounted."""

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        """Lease jobs for `lease` seconds from now. Touches nothing else of them."""

    # ── maintenance, which any number of workers may do at the same time ─────────────────────────────

    async def stage(self, queues: Sequence[str]) -> float | None:
        """Make due jobs available, each exactly once. Returns the seconds until the next is due, if any."""

    async def rescue(self, queues: Sequence[str]) -> int:
        """Make jobs whose lease ran out available, ahead of the others; returns how many.

        Also finishes what a process left half done when it died (failures not yet in failed_jobs).
        """

    async def is_idle(self, queues: Sequence[str]) -> bool:
        """Whether no job of these queues is available or executing. Counts nothing."""

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        """A wake-up for these queues; falls back to the timeout where the store has no channel."""

    # ── operating ────────────────────────────────────────────────────────────────────────────────────

    async def queues(self) -> list[str]:
        """Names of the queues that hold a job in any state, sorted."""

    async def size(self, queue: str) -> int:
        """How many jobs the queue holds, in any state but failed."""

    async def stats(self, queue: str) -> QueueStats:
        """Counts per state, without loading a job."""

    async def clear(self, queue: str) -> int:
        """Delete the jobs that nobody executes; returns how many. failed_jobs is left alone."""

    async def retry_failed(self, failed: Sequence[FailedJob]) -> int:
        """Put failed jobs back on their queue with no tries counted, and forget their rows; how many.

        Neither loses nor doubles a job: what a crash interrupts, the next call finishes.
        """

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────

    async def ping(self) -> None:
        """Reach the store, or raise QueueUnavailableError with its address."""

    async def close(self) -> None:
        """Give back every connection."""


@runtime_checkable
class TransactionalDriver(Protocol):
    """A driver whose store is a database of the app's: it can push as a part of the app's own transactions."""

    async def push_within(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        """As `push`, in the transaction that `connection` is in. `announce` follows once that is committed."""

    def announce(self, jobs: Sequence[NewJob]) -> None:
        """Wake the workers that wait for these jobs. Returns at once."""
