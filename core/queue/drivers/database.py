"""The driver over SQLite, PostgreSQL or MySQL: each verb is one short transaction for its whole batch.

Jobs without keys go past SQLAlchemy, most verbs in one statement. Only where a job has a key, turns.py and
unique_jobs.py come in.

Times are judged by the database, and the lease of a job is current as long as its token stands in the
row: one that ran out is still accepted, until the rescuer or another fetch has changed it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from msgspec.structs import replace
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Answer, Database, Work
from core.database.tables import failed_jobs, jobs, waiting_jobs
from core.errors import QueueUnavailableError
from core.observability.events import Events
from core.queue.driver import FailureStore, WakeUp
from core.queue.drivers import unique_jobs
from core.queue.drivers.lost_fetches import LostFetches
from core.queue.drivers.queue_by_queue import fetch_queue_by_queue
from core.queue.drivers.statements.chunks import ROWS, in_chunks
from core.queue.drivers.statements.statements import Statements
from core.queue.drivers.turns import Turns, arrived
from core.queue.drivers.wake_up.pushes import Channel
from core.queue.envelope import ordering_key_of
from core.queue.failures import DatabaseFailureStore, store_failures
from core.queue.state import FailedJob, Failure, FetchedJob, Lease, NewJob, QueueStats, Retry
from core.tasks import end_tasks

Item = TypeVar("Item")
Ending = Callable[[AsyncConnection, Sequence[Item]], Awaitable[set[str]]]
"""A statement that ends tries, and returns the ids of the jobs whose lease was current."""

Record = Callable[[AsyncConnection, AbstractSet[Lease]], Awaitable[None]]

_log = logging.getLogger("routemq.queue.database")

_LEASES = 500
"""Leases that one statement names at most."""
_LAST_WORDS = 2.0
"""Seconds that closing waits for turns that are being seen to."""


_LONG_AGO = datetime.fromtimestamp(0, UTC)


class DatabaseDriver:
    """Queues in the tables of core/database/tables.py."""

    connection = "database"

    def __init__(self, database: Database, events: Events) -> None:
        self.failures: FailureStore = DatabaseFailureStore(database)
        self._database = database
        self._lost_fetches = LostFetches()
        self._looked: dict[str, datetime] = {}
        """When each queue was looked at last by `rescue`, by the store's clock."""
        self._statements, self._channel = _parts_for(database, events)
        self._turns = Turns(self._statements)
        self._settling: set[asyncio.Task[None]] = set()

    # ── into the store ───────────────────────────────────────────────────────────────────────────────

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        if [job for job in jobs if job.ordering_key is not None or job.unique_key is not None]:
            return await self._push_with_keys(jobs)
        chunks = list(in_chunks(jobs, self._statements.chunk_bytes))
        if not chunks:
            return {}
        queues = {job.queue for job in jobs}
        told = queues if len(chunks) == 1 and self._channel.may_carry() else set[str]()
        is_notified = False
        try:
            await self._write(partial(self._push_chunks, chunks=chunks, tell=told), single=len(chunks) == 1)
            is_notified = bool(told)
        finally:  # where the outcome is unknown, too
            self._channel.announce(queues, is_notified=is_notified)
        return {}

    async def push_within(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        """Store jobs as a part of the caller's transaction, who calls `announce` once it is committed. Returns what
        `push` does.

        Whoever pushes another job with the same unique key waits until that transaction has ended. Nobody waits for
        it on account of an ordering key.
        """
        standing = await self._claim(connection, jobs)
        stored = [job for job in jobs if job.job_id not in standing]
        plain = [job for job in stored if job.ordering_key is None]
        await self._push_chunks(connection, list(in_chunks(plain, self._statements.chunk_bytes)))
        await self._turns.arrive(connection, [job for job in stored if job.ordering_key is not None])
        return _left_out(standing)

    def announce(self, jobs: Sequence[NewJob]) -> None:
        """Wake the workers that wait for these jobs, and see to the turns of those with an ordering key."""
        self._channel.announce({job.queue for job in jobs})
        if queues := {job.queue for job in jobs if job.ordering_key is not None}:
            task = asyncio.create_task(self._settle_soon(queues), name="routemq-settle")
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    # ── a worker's verbs ─────────────────────────────────────────────────────────────────────────────

    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        first = self._lost_fetches.first(queues)
        return await fetch_queue_by_queue(first, limit, partial(self._fetch_from, lease=lease))

    async def _fetch_from(self, queue: str, limit: int, lease: float) -> list[FetchedJob]:
        statements = self._statements
        with self._lost_fetches.call(queue) as call:

            async def work(connection: AsyncConnection) -> list[FetchedJob]:
                token, lost = call.attempt()
                again = lost and await statements.fetch_again(connection, queue, limit, lease, token, lost)
                return again or await statements.fetch(connection, queue, limit, lease, token)

            return await self._write(work)

    async def complete(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        if [lease for lease in leases if lease.turn is not None]:
            return await self._remove(leases)
        return await self._apply(self._statements.remove, {each: each for each in leases})

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        return await self._apply(self._statements.retry, {each.lease: each for each in retries})

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        async def record(connection: AsyncConnection, current: AbstractSet[Lease]) -> None:
            records = [failure for lease, failure in failures if lease in current]
            await store_failures(connection, self.connection, records)

        return await self._remove([lease for lease, _ in failures], record) if failures else set()

    async def release(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        stale = await self._apply(self._statements.release, {each: each for each in leases})
        self._channel.announce({lease.queue for lease in leases})
        return stale

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        return await self._apply(partial(self._statements.renew, lease=lease), {each: each for each in leases})

    # ── maintenance ──────────────────────────────────────────────────────────────────────────────────

    async def stage(self, queues: Sequence[str]) -> float | None:
        """Only tells when the next is due: a job becomes available by the passing of time alone."""
        waits = [await self._read(partial(self._statements.next_due, queue=queue)) for queue in queues]
        return min((wait for wait in waits if wait is not None), default=None)

    async def rescue(self, queues: Sequence[str], *, patiently: bool = False) -> int:
        now = await self._read(self._statements.now)
        before = {queue: self._looked.get(queue, _LONG_AGO) if patiently else None for queue in queues}
        rescued = {queue: await self._rescue(queue, before[queue]) for queue in queues}
        self._looked |= dict.fromkeys(queues, now)
        self._channel.announce(queue for queue, count in rescued.items() if count)
        await self._settle_all(queues)
        if lost := await self._read(self._turns.lost):
            await self._database.write(partial(self._turns.free, names=lost))
            self._channel.announce(queues)
        return sum(rescued.values())

    async def is_idle(self, queues: Sequence[str]) -> bool:
        """See the contract. What has arrived and is not settled is about to become available."""
        for queue in queues:
            if await self._read(partial(self._statements.is_busy, queue=queue)):
                return False
            if await self._read(partial(arrived, queue=queue)):
                return False
        return True

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        return self._channel.wake_up(queues)

    # ── operating ────────────────────────────────────────────────────────────────────────────────────

    async def queues(self) -> list[str]:
        held = await self._read(self._statements.queues)
        return sorted({*held, *await self.failures.count(self.connection)})

    async def size(self, queue: str) -> int:
        async def work(connection: AsyncConnection) -> int:
            in_jobs, waiting = (
                select(func.count()).select_from(table).where(table.c.queue == queue).scalar_subquery()
                for table in (jobs, waiting_jobs)
            )
            count: int = (await connection.execute(select(in_jobs + waiting))).scalar_one()
            return count

        return await self._read(work)

    async def stats(self, queue: str) -> QueueStats:
        stats = await self._read(partial(self._statements.stats, queue=queue))
        return replace(stats, failed=(await self.failures.count(self.connection)).get(queue, 0))

    async def clear(self, queue: str) -> int:
        async def work(connection: AsyncConnection) -> int:
            idle = (jobs.c.queue == queue) & jobs.c.lease_expires_at.is_(None) & jobs.c.turn.is_(None)
            plain = (await connection.execute(delete(jobs).where(idle))).rowcount
            return plain + await self._turns.clear(connection, queue)

        return await self._database.write(work, takes_long=True)

    async def retry_failed(self, failed: Sequence[FailedJob]) -> int:
        """One transaction takes the rows and puts the jobs back; of two operators, the second finds none."""

        async def work(connection: AsyncConnection) -> int:
            parts = [failed[start : start + _LEASES] for start in range(0, len(failed), _LEASES)]
            return sum([await self._put_back(connection, part) for part in parts])

        count = await self._database.write(work, takes_long=True)
        await self._settle_soon({each.queue for each in failed})
        self._channel.announce({each.queue for each in failed})
        return count

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        """Give back every connection. The database opens anew for whoever uses it later, and closes it then."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_LAST_WORDS)
        await end_tasks(*self._settling)  # what is left, the rescuer of a worker settles
        await self._channel.close()
        await self._database.close()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────

    async def _push_with_keys(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        async def work(connection: AsyncConnection) -> Mapping[str, str]:
            standing = await self._claim(connection, jobs)
            await self._store(connection, [job for job in jobs if job.job_id not in standing])
            if unique := sum(job.unique_key is not None for job in jobs):
                await unique_jobs.prune(connection, 2 * unique, await self._statements.now(connection))
            return _left_out(standing)

        try:
            return await self._database.write(work)
        finally:  # where the outcome is unknown, too
            self._channel.announce({job.queue for job in jobs})

    async def _claim(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        """By the ids of jobs that are not to be stored, the ids of those that stand for them; see unique_jobs.py."""
        if all(job.unique_key is None for job in jobs):
            return {}
        return await unique_jobs.claim(connection, jobs, await self._statements.now(connection))

    async def _store(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
        if any(job.ordering_key is not None for job in jobs):
            await self._turns.push(connection, jobs)
        else:
            await self._push_chunks(connection, list(in_chunks(jobs, self._statements.chunk_bytes)))

    async def _push_chunks(
        self, connection: AsyncConnection, chunks: Sequence[Sequence[NewJob]], tell: AbstractSet[str] = frozenset()
    ) -> None:
        for chunk in chunks:
            await self._statements.push(connection, chunk, tell)

    async def _remove(self, leases: Sequence[Lease], record: Record | None = None) -> AbstractSet[str]:
        """Take jobs off their queue, and hand their turns on; `record` is called in between with what was current."""

        async def work(connection: AsyncConnection) -> tuple[AbstractSet[Lease], int]:
            turns = await self._turns.lock(connection, leases)
            current = await _in_rounds(self._statements.remove, connection, _rounds({each: each for each in leases}))
            if record is not None:
                await record(connection, current)
            return current, await self._turns.hand_on(connection, turns)

        current, handed_on = await self._database.write(work)
        if handed_on:
            self._channel.announce({lease.queue for lease in leases if lease.turn is not None})
        return _stale(leases, current)

    async def _settle_soon(self, queues: Iterable[str]) -> None:
        try:
            await self._settle_all(queues)
        except QueueUnavailableError:  # the rescuer meets it too, and tells
            pass
        except Exception:
            _log.exception("jobs with an ordering key get their turn with the next rescue only")

    async def _settle_all(self, queues: Iterable[str]) -> None:
        """See to the turns of jobs that came with transactions of the app's, or were put back."""
        for queue in queues:
            while found := await self._read(partial(arrived, queue=queue)):
                await self._database.write(partial(self._turns.settle, arrived=found))
                self._channel.announce({queue})

    async def _rescue(self, queue: str, before: datetime | None) -> int:
        rescue = partial(self._statements.rescue, queue=queue, limit=ROWS, before=before)
        rescued = 0
        while count := await self._write(rescue):
            rescued += count
        return rescued

    async def _put_back(self, connection: AsyncConnection, failed: Sequence[FailedJob]) -> int:
        """Move rows of failed_jobs to jobs, those that are still there; returns how many.

        Only what was locked is deleted: a row that was not there may have come since, of a job that failed anew.
        """
        by_job_id = {each.job_id: each for each in failed}
        wanted = select(failed_jobs.c.job_id).where(failed_jobs.c.job_id.in_(by_job_id)).with_for_update()
        found = set(await connection.scalars(wanted))
        again = [
            NewJob(job_id, each.queue, each.payload, ordering_key=ordering_key_of(each.payload))
            for job_id, each in by_job_id.items()
            if job_id in found
        ]
        await self.push_within(connection, again)
        await connection.execute(delete(failed_jobs).where(failed_jobs.c.job_id.in_(found)))
        return len(found)

    async def _apply(self, statement: Ending[Item], by_lease: Mapping[Lease, Item]) -> set[str]:
        """Run a verb on all of its leases in one transaction; returns the ids of those that were not current."""
        if not by_lease:
            return set()
        rounds = _rounds(by_lease)
        current = await self._write(
            lambda connection: _in_rounds(statement, connection, rounds), single=len(rounds) == 1
        )
        return _stale(by_lease, current)

    async def _write(self, work: Work[Answer], *, single: bool = True) -> Answer:
        return await self._database.write(work, single=single and self._statements.single)

    async def _read(self, work: Work[Answer]) -> Answer:
        return await self._database.read(work)


def _parts_for(database: Database, events: Events) -> tuple[Statements, Channel]:
    """Each dialect's part is imported only where that is used, as is the library behind it."""
    if database.dialect == "postgresql":
        from core.queue.drivers.statements.postgresql import PostgresqlStatements
        from core.queue.drivers.wake_up.postgresql import PostgresqlChannel

        return PostgresqlStatements(), PostgresqlChannel(database, events)
    if database.dialect == "mysql":
        from core.queue.drivers.statements.mysql import MysqlStatements
        from core.queue.drivers.wake_up.mysql import MysqlChannel

        return MysqlStatements(), MysqlChannel(database)
    from core.queue.drivers.statements.sqlite import SqliteStatements
    from core.queue.drivers.wake_up.sqlite import SqliteChannel

    return SqliteStatements(), SqliteChannel(database)


def _left_out(standing: Mapping[str, str]) -> dict[str, str]:
    """Without jobs that stand for themselves."""
    return {job_id: other for job_id, other in standing.items() if job_id != other}


def _rounds(by_lease: Mapping[Lease, Item]) -> list[dict[Lease, Item]]:
    """What one statement each is to handle, sorted by job id: as every batch locks its rows in that order, no two
    wait for each other. None names a job twice, under an old lease and a new one: what a statement returns, the
    id, would not tell which of them was current.
    """
    rounds: list[dict[Lease, Item]] = []
    last_id = None
    for lease in sorted(by_lease, key=lambda each: each.job_id):
        if not rounds or len(rounds[-1]) == _LEASES or lease.job_id == last_id:
            rounds.append({})
        rounds[-1][lease] = by_lease[lease]
        last_id = lease.job_id
    return rounds


async def _in_rounds(
    statement: Ending[Item], connection: AsyncConnection, rounds: Sequence[Mapping[Lease, Item]]
) -> set[Lease]:
    """Run a verb round by round; returns the leases that were current."""
    current: set[Lease] = set()
    for each in rounds:
        done = await statement(connection, list(each.values()))
        current.update(lease for lease in each if lease.job_id in done)
    return current


def _stale(leases: Iterable[Lease], current: AbstractSet[Lease]) -> set[str]:
    return {lease.job_id for lease in leases if lease not in current}
