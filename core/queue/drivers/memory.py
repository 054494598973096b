"""Queues in the memory of one process: for tests, and the plainest reading of the driver contract.

No verb suspends between its first look at a queue and its last change of it, so each is atomic as it
stands. Nothing outlives the process.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import TypeVar

from msgspec.structs import replace

from core.queue.driver import FailureStore, WakeUp
from core.queue.envelope import ordering_key_of
from core.queue.state import FailedJob, Failure, FetchedJob, Lease, NewJob, QueueStats, Retry


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryDriver:
    """The queues and failed jobs of one process.

    `monotonic` (seconds) and `now` (UTC) are the store's clock: the first judges, the second dates.
    """

    def __init__(
        self,
        connection: str = "memory",
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.connection = connection
        self.failures: FailureStore = MemoryFailureStore(now)
        self._monotonic = monotonic
        self._queues: dict[str, _Queue] = {}
        self._wake_ups: set[MemoryWakeUp] = set()

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        stored = [(job.job_id, self._queue(job.queue).push(job)) for job in jobs]
        return {job_id: standing_in for job_id, standing_in in stored if standing_in != job_id}

    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        # One moment for all of them: a rescuer that looked in between two would put the later ahead of the earlier.
        expires = self._monotonic() + lease
        fetched: list[FetchedJob] = []
        for name in queues:
            fetched += self._queue(name).fetch(limit - len(fetched), expires)
        return fetched

    async def complete(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        return {lease.job_id for lease in leases if not self._queue(lease.queue).complete(lease)}

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        return {
            retry.lease.job_id
            for retry in retries
            if not self._queue(retry.lease.queue).retry(retry.lease, retry.delay)
        }

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        current = {lease: failure for lease, failure in failures if self._queue(lease.queue).current(lease)}
        await self.failures.record(self.connection, list(current.values()))
        await self.complete(list(current))
        return {lease.job_id for lease, _ in failures if lease not in current}

    async def release(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        # From the last to the first, since each goes ahead of the one before.
        return {lease.job_id for lease in reversed(leases) if not self._queue(lease.queue).release(lease)}

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        expires = self._monotonic() + lease
        return {held.job_id for held in leases if not self._queue(held.queue).renew(held, expires)}

    async def stage(self, queues: Sequence[str]) -> float | None:
        waits = [self._queue(name).stage() for name in queues]
        return min((wait for wait in waits if wait is not None), default=None)

    async def rescue(self, queues: Sequence[str], *, patiently: bool = False) -> int:
        return sum(self._queue(name).rescue(patiently) for name in queues)

    async def is_idle(self, queues: Sequence[str]) -> bool:
        stats = [self._queue(name).stats(0) for name in queues]
        return not any(each.available or each.executing for each in stats)

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        wake_up = MemoryWakeUp(queues, self._wake_ups.discard)
        self._wake_ups.add(wake_up)
        return wake_up

    async def queues(self) -> list[str]:
        held = {name for name, queue in self._queues.items() if queue.jobs}
        return sorted(held | (await self.failures.count(self.connection)).keys())

    async def size(self, queue: str) -> int:
        return len(self._queue(queue).jobs)

    async def stats(self, queue: str) -> QueueStats:
        failed = await self.failures.count(self.connection)
        return self._queue(queue).stats(failed.get(queue, 0))

    async def clear(self, queue: str) -> int:
        return self._queue(queue).clear()

    async def retry_failed(self, failed: Sequence[FailedJob]) -> int:
        async with self.failures.take([row.job_id for row in failed]) as rows:
            await self.push(
                [NewJob(row.job_id, row.queue, row.payload, ordering_key=ordering_key_of(row.payload)) for row in rows]
            )
            return len(rows)

    async def ping(self) -> None:
        """There is nothing between us and the store."""

    async def close(self) -> None:
        """There is no connection to give back."""

    def _queue(self, name: str) -> _Queue:
        if name not in self._queues:
            self._queues[name] = _Queue(name, self._monotonic, self._wake)
        return self._queues[name]

    def _wake(self, queue: str) -> None:
        for wake_up in self._wake_ups:
            wake_up.tell(queue)


class MemoryWakeUp:
    """An event that a push sets and a `wait` that saw it clears."""

    def __init__(self, queues: Sequence[str], forget: Callable[[MemoryWakeUp], None]) -> None:
        self._queues = frozenset(queues)
        self._forget = forget
        self._pushed = asyncio.Event()

    def tell(self, queue: str) -> None:
        if queue in self._queues:
            self._pushed.set()

    async def wait(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._pushed.wait()
        except TimeoutError:
            return False
        self._pushed.clear()
        return True

    async def close(self) -> None:
        self._forget(self)


class MemoryFailureStore:
    """The failed_jobs table as a dict by job id, the oldest row first; `now` (UTC) dates the rows."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._rows: dict[str, FailedJob] = {}
        self._ids = itertools.count(1)
        self._taking = asyncio.Lock()

    async def record(
        self, connection: str, failures: Sequence[Failure], *, confirm: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        if confirm is None:
            self._record(connection, failures)
            return
        async with self._taking:
            await confirm()
            self._record(connection, failures)

    def _record(self, connection: str, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._rows.pop(failure.job_id, None)  # so that its new row is the newest
            self._rows[failure.job_id] = self._row(connection, failure)

    @asynccontextmanager
    async def take(self, job_ids: Sequence[str]) -> AsyncIterator[list[FailedJob]]:
        async with self._taking:
            rows = [self._rows[job_id] for job_id in job_ids if job_id in self._rows]
            yield rows
            # A job that failed again meanwhile has a new row, which stays.
            await self.forget([row.job_id for row in rows if self._rows.get(row.job_id) is row])

    async def rows(
        self,
        *,
        limit: int | None = None,
        queue: str | None = None,
        before: FailedJob | None = None,
        payloads: bool = True,
    ) -> list[FailedJob]:
        wanted = (
            row if payloads else replace(row, payload=b"")
            for row in reversed(self._rows.values())  # a row's id grows with its place, as a new row has a new one
            if queue in (None, row.queue) and (before is None or row.id < before.id)
        )
        return list(itertools.islice(wanted, limit))

    async def find(self, key: str) -> FailedJob | None:
        return next((row for row in self._rows.values() if key in (row.job_id, str(row.id))), None)

    async def forget(self, job_ids: Sequence[str]) -> int:
        return sum(self._rows.pop(job_id, None) is not None for job_id in job_ids)

    async def flush(self) -> int:
        return await self.forget([*self._rows])

    async def prune(self, before: datetime) -> int:
        return await self.forget([row.job_id for row in self._rows.values() if row.failed_at < before])

    async def count(self, connection: str) -> dict[str, int]:
        return dict(Counter(row.queue for row in self._rows.values() if row.connection == connection))

    def _row(self, connection: str, failure: Failure) -> FailedJob:
        return FailedJob(
            id=next(self._ids),
            job_id=failure.job_id,
            connection=connection,
            queue=failure.queue,
            job=failure.job,
            payload=failure.payload,
            exception=failure.exception,
            attempts=failure.attempts,
            failed_at=self._now(),
        )


@dataclass(slots=True, eq=False)
class _Job:
    job_id: str
    payload: bytes
    due: float
    """When it became available, or will."""
    ordering_key: str | None
    attempts: int = 0
    token: str | None = None
    """Of its lease, while it is executing."""
    expires: float = 0.0
    """When that lease runs out."""


T = TypeVar("T")

_Timed = tuple[float, int, T]
"""An entry of a heap: a moment, a serial number that keeps equal moments in order, and what comes to its moment."""


class _Queue:
    """One queue. A job of `jobs` that is in none of the four places below is executing."""

    _serial = itertools.count(1)
    """Of all queues, so that no token is made twice."""

    def __init__(self, name: str, monotonic: Callable[[], float], wake: Callable[[str], None]) -> None:
        """`wake` is told the name when a job has become available, or is scheduled."""
        self._name = name
        self._monotonic = monotonic
        self._wake = wake
        self.jobs: dict[str, _Job] = {}
        self._available: deque[_Job] = deque()
        self._scheduled: list[_Timed[_Job]] = []
        self._retryable: list[_Timed[_Job]] = []
        self._waiting: dict[str, deque[_Job]] = {}
        """By each ordering key of which a job has its turn: those behind that job."""
        self._leases: list[_Timed[_Job]] = []
        """Every lease given, by the moment it runs out; those that ended or were renewed since, too."""
        self._looked = float("-inf")
        """When `rescue` was called last."""
        self._unique: dict[str, str] = {}
        """By each unique key whose window is not over: the job that was pushed with it."""
        self._windows: list[_Timed[str]] = []
        """Those keys, by the moment their window is over."""

    def push(self, new: NewJob) -> str:
        """Store a job, unless it is stored or left out. Returns the id of the job that stands for it, or its own."""
        if new.job_id in self.jobs:
            return new.job_id
        first = None if new.unique_key is None else self._taken_for(new.unique_key, new)
        if first is None:
            self._store(_Job(new.job_id, new.payload, self._monotonic() + new.delay, new.ordering_key))
        return first or new.job_id

    def _taken_for(self, unique_key: str, new: NewJob) -> str | None:
        """The id of the job that a unique key was taken for before; None where it is the new one's from now on."""
        now = self._monotonic()
        for _, _, key in self._leave(self._windows, now):
            del self._unique[key]
        if unique_key in self._unique:
            return self._unique[unique_key]
        self._unique[unique_key] = new.job_id
        self._enter(self._windows, now + new.unique_for, unique_key)
        return None

    def _store(self, job: _Job) -> None:
        self.jobs[job.job_id] = job
        if job.ordering_key is None:
            self._take_its_turn(job)
        elif job.ordering_key in self._waiting:
            self._waiting[job.ordering_key].append(job)
        else:
            self._waiting[job.ordering_key] = deque()
            self._take_its_turn(job)

    def _take_its_turn(self, job: _Job) -> None:
        now = self._monotonic()
        if job.due > now:
            self._enter(self._scheduled, job.due, job)
        else:
            job.due = now
            self._available.append(job)
        self._wake(self._name)

    def fetch(self, limit: int, expires: float) -> list[FetchedJob]:
        count = max(0, min(limit, len(self._available)))
        return [self._start(self._available.popleft(), expires) for _ in range(count)]

    def current(self, lease: Lease) -> _Job | None:
        job = self.jobs.get(lease.job_id)
        return job if job is not None and job.token == lease.token else None

    def complete(self, lease: Lease) -> bool:
        if job := self._end(lease):
            self._forget(job)
        return job is not None

    def _forget(self, job: _Job) -> None:
        """Of its ordering key, the next has its turn."""
        del self.jobs[job.job_id]
        if job.ordering_key is None:
            return
        if behind := self._waiting[job.ordering_key]:
            self._take_its_turn(behind.popleft())
        else:
            del self._waiting[job.ordering_key]

    def retry(self, lease: Lease, delay: float) -> bool:
        if job := self._end(lease):
            job.due = self._monotonic() + delay
            self._enter(self._retryable, job.due, job)
        return job is not None

    def release(self, lease: Lease) -> bool:
        if job := self._end(lease):
            job.attempts -= 1
            self._available.appendleft(job)
            self._wake(self._name)
        return job is not None

    def renew(self, lease: Lease, expires: float) -> bool:
        if job := self.current(lease):
            self._lease(job, expires)
        return job is not None

    def stage(self) -> float | None:
        now = self._monotonic()
        due = self._leave(self._scheduled, now) + self._leave(self._retryable, now)
        self._available.extend(job for *_, job in sorted(due))
        waiting = self._scheduled[:1] + self._retryable[:1]
        return min((moment - now for moment, *_ in waiting), default=None)

    def rescue(self, patiently: bool) -> int:
        now = self._monotonic()
        before, self._looked = self._looked if patiently else now, now
        lost = []
        for *_, job in self._leave(self._leases, now):
            if job.token and before < job.expires <= now:
                self._enter(self._leases, job.expires, job)
            elif job.token and job.expires <= now:
                job.token = None
                lost.append(job)
        if lost:
            self._available.extendleft(reversed(lost))
            self._wake(self._name)
        return len(lost)

    def stats(self, failed: int) -> QueueStats:
        available, retryable = len(self._available), len(self._retryable)
        scheduled = len(self._scheduled) + sum(map(len, self._waiting.values()))
        return QueueStats(
            queue=self._name,
            available=available,
            scheduled=scheduled,
            executing=len(self.jobs) - available - scheduled - retryable,
            retryable=retryable,
            failed=failed,
            oldest_seconds=self._monotonic() - self._available[0].due if available else 0.0,
        )

    def clear(self) -> int:
        held = len(self.jobs)
        self.jobs = {job.job_id: job for job in self.jobs.values() if job.token}
        self._available.clear()
        self._scheduled.clear()
        self._retryable.clear()
        self._waiting = {job.ordering_key: deque() for job in self.jobs.values() if job.ordering_key is not None}
        return held - len(self.jobs)

    def _start(self, job: _Job, expires: float) -> FetchedJob:
        job.attempts += 1
        job.token = token = str(next(self._serial))
        self._lease(job, expires)
        return FetchedJob(job.job_id, self._name, job.payload, job.attempts, token)

    def _lease(self, job: _Job, expires: float) -> None:
        job.expires = expires
        self._enter(self._leases, expires, job)

    def _end(self, lease: Lease) -> _Job | None:
        """The job, no longer executing; none if the lease is not current."""
        if job := self.current(lease):
            job.token = None
        return job

    def _enter(self, heap: list[_Timed[T]], moment: float, what: T) -> None:
        heappush(heap, (moment, next(self._serial), what))

    def _leave(self, heap: list[_Timed[T]], now: float) -> list[_Timed[T]]:
        """Take out what has come to its moment."""
        left = []
        while heap and heap[0][0] <= now:
            left.append(heappop(heap))
        return left
