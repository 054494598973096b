"""Turns: of the jobs with one ordering key, one at a time stands in `jobs`; the others wait in `waiting_jobs`.

Whoever puts such jobs in or takes one off first locks the turns of their keys, all in one order, so that no two wait
for each other. Only then, by statements of their own, does he look who has a turn and who waits: a statement does not
see what was committed while it waited for a lock; the next one does, on READ COMMITTED.

A transaction of the app's may stay open for long, so it locks no turn: its jobs wait, and `arrivals` tells that nobody
has seen to their turn. That is settled once it is committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Table, case, exists, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.by_key import delete_by_key, in_parts, select_by_key
from core.database.columns import UtcDateTime
from core.database.tables import arrivals, jobs, turns, waiting_jobs
from core.database.upsert import insert_missing, insert_or_update
from core.queue.drivers.key_hash import key_hash
from core.queue.drivers.statements.chunks import in_chunks
from core.queue.drivers.statements.statements import Statements
from core.queue.state import Lease, NewJob

_NOBODY = ""
"""Has a turn that was locked to see whose it is."""
_ARRIVALS = 500
"""Arrivals that are settled at a time."""
_LOOKED_AT = 200
"""Turns that one look for lost ones comes by."""
_KEPT = ("job_id", "queue", "payload", "dispatched_at", "turn")
"""What a job takes along when it goes from `waiting_jobs` to `jobs`."""


class Turns:
    """Every method is part of a transaction."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._looked_at = ""

    async def push(self, connection: AsyncConnection, new: Sequence[NewJob]) -> None:
        """Store jobs, with ordering keys and without, in their order."""
        candidates: dict[str, str] = {}
        for job in new:
            if (turn := _turn_of(job)) is not None:
                candidates.setdefault(turn, job.job_id)
        await _lock(connection, candidates)
        free = await _free(connection, list(candidates))
        first = {row.job_id for row in free if row.waiting is None and row.job_id == candidates[row.turn]}
        now = await self._statements.now(connection)
        at_once, behind = _parted(new, first)
        await self._insert(connection, jobs, at_once, now)
        await self._wait(connection, behind, now)
        await self.hand_on(connection, [row.turn for row in free if row.job_id not in first])

    async def arrive(self, connection: AsyncConnection, new: Sequence[NewJob]) -> None:
        """Store jobs with ordering keys, to be settled once the transaction is committed. Locks no turn."""
        if not new:
            return
        await self._wait(connection, new, await self._statements.now(connection))
        queues = {_turn_of(job): job.queue for job in new}
        await connection.execute(insert(arrivals), [{"queue": queue, "turn": turn} for turn, queue in queues.items()])

    async def settle(self, connection: AsyncConnection, arrived: Mapping[int, str]) -> None:
        """See to the turns of what has arrived."""
        await self.free(connection, list(dict.fromkeys(arrived.values())))
        await delete_by_key(connection, arrivals.c.id, list(arrived))

    async def lost(self, connection: AsyncConnection) -> list[str]:
        """Turns whose job was taken off by somebody who knows of no turns: a worker of an older version, or a hand.

        Looks at some of them each time, which need not be exact: it goes round.
        """
        is_there = exists().where(jobs.c.job_id == turns.c.job_id)
        some = select(turns.c.turn, is_there.label("is_there")).where(turns.c.turn > self._looked_at)
        rows = (await connection.execute(some.order_by(turns.c.turn).limit(_LOOKED_AT))).all()
        self._looked_at = rows[-1].turn if len(rows) == _LOOKED_AT else ""
        return [row.turn for row in rows if not row.is_there]

    async def free(self, connection: AsyncConnection, names: Sequence[str]) -> None:
        """Lock turns, and hand on those whose job has gone."""
        await _lock(connection, dict.fromkeys(names, _NOBODY))
        await self.hand_on(connection, names)

    async def lock(self, connection: AsyncConnection, leases: Iterable[Lease]) -> list[str]:
        """Lock the turns that these jobs have; returns them."""
        holders = {lease.turn: lease.job_id for lease in leases if lease.turn is not None}
        await _lock(connection, holders)
        return list(holders)

    async def hand_on(self, connection: AsyncConnection, names: Sequence[str]) -> int:
        """Give locked turns whose job has gone to the first who waits, in this order; returns how many got theirs."""
        free = {row.turn: row.waiting for row in await _free(connection, names)}
        ids = [free[name] for name in names if free.get(name) is not None]
        for part in in_parts(ids):
            await _move(connection, part, await self._statements.now(connection))
        await delete_by_key(connection, turns.c.turn, [name for name in free if free[name] is None])
        return len(ids)

    async def clear(self, connection: AsyncConnection, queue: str) -> int:
        """Delete the jobs with ordering keys that nobody executes; returns how many there were.

        A key of which the first job is pushed meanwhile is left alone.
        """
        names = await _turns_on(connection, queue)
        await _lock(connection, dict.fromkeys(names, _NOBODY))
        cleared = await delete_by_key(connection, jobs.c.id, await _idle(connection, names))
        cleared += await delete_by_key(connection, waiting_jobs.c.id, await _waiting(connection, names))
        await self.hand_on(connection, names)
        return cleared

    async def _wait(self, connection: AsyncConnection, new: Sequence[NewJob], now: datetime) -> None:
        """Put jobs in line, but for those that are in `jobs`: a push of theirs is being repeated."""
        rows = await select_by_key(connection, select(jobs.c.job_id), jobs.c.job_id, [job.job_id for job in new])
        stored = {row.job_id for row in rows}
        await self._insert(connection, waiting_jobs, [job for job in new if job.job_id not in stored], now)

    async def _insert(self, connection: AsyncConnection, table: Table, new: Sequence[NewJob], now: datetime) -> None:
        await self._statements.require_room(connection, new)
        statement = insert_missing(connection.dialect.name, table, "job_id")
        for chunk in in_chunks(new, self._statements.chunk_bytes):
            await connection.execute(statement, [_row(table, job, now) for job in chunk])


async def arrived(connection: AsyncConnection, queue: str) -> dict[int, str]:
    """What has arrived on a queue and is not settled, the first of it: turns, by the id of the arrival."""
    first = select(arrivals.c.id, arrivals.c.turn).where(arrivals.c.queue == queue).order_by(arrivals.c.id)
    return {row.id: row.turn for row in await connection.execute(first.limit(_ARRIVALS))}


async def _lock(connection: AsyncConnection, holders: Mapping[str, str]) -> None:
    """Lock turns, all in one order. A turn that nobody has is given to its holder here."""
    if holders:
        lock = insert_or_update(connection.dialect.name, turns, "turn", lambda _: {"job_id": turns.c.job_id})
        rows = [{"turn": turn, "job_id": job_id} for turn, job_id in sorted(holders.items())]
        await connection.execute(lock, rows)


async def _free(connection: AsyncConnection, names: Sequence[str]) -> list[Row[Any]]:
    """Of these turns those whose job is not in `jobs`, with that job's id and the id of the first row that waits."""
    waiting = select(func.min(waiting_jobs.c.id)).where(waiting_jobs.c.turn == turns.c.turn).scalar_subquery()
    has_gone = ~exists().where(jobs.c.job_id == turns.c.job_id)
    query = select(turns.c.turn, turns.c.job_id, waiting.label("waiting")).where(has_gone)
    return await select_by_key(connection, query, turns.c.turn, names)


async def _move(connection: AsyncConnection, ids: Sequence[int], now: datetime) -> None:
    """Move rows of `waiting_jobs` to `jobs`, in this order, and give them their turns."""
    dialect = connection.dialect.name
    those = waiting_jobs.c.id.in_(ids)
    place = case({row_id: place for place, row_id in enumerate(ids)}, value=waiting_jobs.c.id)
    since = literal(now, UtcDateTime)
    due = case((waiting_jobs.c.available_at < since, since), else_=waiting_jobs.c.available_at)
    moved = select(*(waiting_jobs.c[name] for name in _KEPT), due, literal(0)).where(those).order_by(place)
    into = insert_missing(dialect, jobs, "job_id").from_select([*_KEPT, "available_at", "attempts"], moved)
    await connection.execute(into)
    holders = select(waiting_jobs.c.turn, waiting_jobs.c.job_id).where(those)
    give = insert_or_update(dialect, turns, "turn", lambda new: {"job_id": new.job_id})
    await connection.execute(give.from_select(["turn", "job_id"], holders))
    await delete_by_key(connection, waiting_jobs.c.id, ids)


async def _turns_on(connection: AsyncConnection, queue: str) -> list[str]:
    """The turns of a queue's jobs that nobody executes."""
    idle = select(jobs.c.turn).where(jobs.c.queue == queue, jobs.c.lease_expires_at.is_(None), jobs.c.turn.is_not(None))
    waiting = select(waiting_jobs.c.turn).where(waiting_jobs.c.queue == queue)
    return list(await connection.scalars(idle.union(waiting)))


async def _idle(connection: AsyncConnection, names: Sequence[str]) -> list[int]:
    """Lock the jobs that have these turns and are not executing; returns their rows' ids."""
    rows = await select_by_key(connection, select(turns.c.job_id), turns.c.turn, names)
    idle = (
        select(jobs.c.id)
        .where(jobs.c.lease_expires_at.is_(None))
        .with_hint(jobs, "FORCE INDEX (uq_jobs_job_id)", "mysql")
        .with_for_update()
    )
    return [row.id for row in await select_by_key(connection, idle, jobs.c.job_id, [row.job_id for row in rows])]


async def _waiting(connection: AsyncConnection, names: Sequence[str]) -> list[int]:
    rows = await select_by_key(connection, select(waiting_jobs.c.id), waiting_jobs.c.turn, names)
    return [row.id for row in rows]


def _parted(new: Sequence[NewJob], first: AbstractSet[str]) -> tuple[list[NewJob], list[NewJob]]:
    """Those that may be fetched, which have no key or are the first of theirs, and those behind."""
    at_once: list[NewJob] = []
    behind: list[NewJob] = []
    for job in new:
        (at_once if job.ordering_key is None or job.job_id in first else behind).append(job)
    return at_once, behind


def _row(table: Table, job: NewJob, now: datetime) -> dict[str, Any]:
    row: dict[str, Any] = {
        "job_id": job.job_id,
        "queue": job.queue,
        "payload": job.payload,
        "available_at": now + timedelta(seconds=job.delay),
        "dispatched_at": now,
        "turn": _turn_of(job),
    }
    return row if table is waiting_jobs else {**row, "attempts": 0}


def _turn_of(job: NewJob) -> str | None:
    return None if job.ordering_key is None else key_hash(job.queue, job.ordering_key)
