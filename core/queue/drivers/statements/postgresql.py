"""PostgreSQL. Every verb is one statement, so it needs no transaction of its own.

A statement carries a whole batch in arrays; many new jobs go by COPY, in half the time. Rows are locked
with SKIP LOCKED where any will do, so that fetchers and rescuers pass each other by. statement_timestamp()
and not now(): inside a caller's long transaction, now() stands still.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.columns import payload_to_text, text_to_payload
from core.database.direct import call, is_direct
from core.queue.drivers.statements.floors import Floors
from core.queue.drivers.statements.rows import first_column, rows
from core.queue.state import FetchedJob, Lease, NewJob, QueueStats, Retry

CHANNEL = "routemq_push"
"""As PUSH and NOTIFY name it."""

# $1 job ids, $2 queues, $3 payloads, $4 delays in seconds: arrays of one length. $5 queues to notify of.
# Ids are given out in the order of the arrays, since the rows are sorted before the sequence is asked.
PUSH = """
WITH pushed AS (
    INSERT INTO jobs (job_id, queue, payload, attempts, available_at, dispatched_at)
    SELECT job_id, queue, payload, 0, statement_timestamp() + delay * interval '1 second', statement_timestamp()
      FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[])
           WITH ORDINALITY AS new (job_id, queue, payload, delay, position)
     ORDER BY position
        ON CONFLICT (job_id) DO NOTHING
)
SELECT pg_notify('routemq_push', queue) FROM unnest($5::text[]) AS queue
"""

# $1 queues.
NOTIFY = "SELECT pg_notify('routemq_push', queue) FROM unnest($1::text[]) AS queue"

_NOW = "SELECT statement_timestamp()"

# What COPY fills in. It takes no expressions: the moment is asked for before.
_COLUMNS = ("job_id", "queue", "payload", "attempts", "available_at", "dispatched_at")
_CONTROLS = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})
_COPY_FROM = 32
"""Jobs from which on COPY is quicker: it takes two round trips more."""

# $1 queue, $2 limit, $3 token, $4 lease in seconds, $5 moment before which it does not look, or NULL.
# Returns available_at, job id, payload, attempts and turn, in order.
# Each row goes to one fetcher: the lock is taken, and its conditions looked at again, before it is updated.
# The order names lease_expires_at, always NULL here, since that is how the planner sees that the index fits.
FETCH = """
WITH next AS (
    SELECT id FROM jobs
     WHERE queue = $1 AND lease_expires_at IS NULL AND available_at <= statement_timestamp()
       AND available_at >= coalesce($5::timestamptz, '-infinity')
     ORDER BY lease_expires_at, available_at, id
     LIMIT $2 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE jobs
       SET attempts = attempts + 1, lease_token = $3,
           lease_expires_at = statement_timestamp() + $4 * interval '1 second'
     WHERE id = ANY (ARRAY(SELECT id FROM next))
    RETURNING id, available_at, job_id, payload, attempts, turn
)
SELECT available_at, job_id, payload, attempts, turn FROM taken ORDER BY available_at, id
"""

# $1 queue, $2 limit, $3 token, $4 lease in seconds, $5 tokens under which the jobs are leased so far. Returns as FETCH
# does.
FETCH_AGAIN = """
WITH next AS (
    SELECT id FROM jobs
     WHERE queue = $1 AND lease_expires_at IS NOT NULL AND lease_token = ANY ($5::text[])
     ORDER BY available_at, id
     LIMIT $2 FOR UPDATE
), taken AS (
    UPDATE jobs SET lease_token = $3, lease_expires_at = statement_timestamp() + $4 * interval '1 second'
     WHERE id = ANY (ARRAY(SELECT id FROM next))
    RETURNING id, available_at, job_id, payload, attempts, turn
)
SELECT available_at, job_id, payload, attempts, turn FROM taken ORDER BY available_at, id
"""

# $1 job ids, $2 tokens. Returns the job ids whose token was current.
REMOVE = """
DELETE FROM jobs USING unnest($1::text[], $2::text[]) AS lease (job_id, token)
 WHERE jobs.job_id = lease.job_id AND jobs.lease_token = lease.token
RETURNING jobs.job_id
"""

# $1 job ids, $2 tokens, $3 delays in seconds. Returns as REMOVE does.
RETRY = """
UPDATE jobs
   SET lease_token = NULL, lease_expires_at = NULL,
       available_at = statement_timestamp() + lease.delay * interval '1 second'
  FROM unnest($1::text[], $2::text[], $3::float8[]) AS lease (job_id, token, delay)
 WHERE jobs.job_id = lease.job_id AND jobs.lease_token = lease.token
RETURNING jobs.job_id
"""

# $1 job ids, $2 tokens. Returns as REMOVE does.
RELEASE = """
UPDATE jobs
   SET lease_token = NULL, lease_expires_at = NULL, attempts = attempts - 1
  FROM unnest($1::text[], $2::text[]) AS lease (job_id, token)
 WHERE jobs.job_id = lease.job_id AND jobs.lease_token = lease.token
RETURNING jobs.job_id
"""

# $1 job ids, $2 tokens, $3 lease in seconds. Returns as REMOVE does.
RENEW = """
UPDATE jobs
   SET lease_expires_at = statement_timestamp() + $3 * interval '1 second'
  FROM unnest($1::text[], $2::text[]) AS lease (job_id, token)
 WHERE jobs.job_id = lease.job_id AND jobs.lease_token = lease.token
RETURNING jobs.job_id
"""

# $1 queue, $2 limit. Returns a row per job. A lease that is being renewed or ended is locked, and left alone.
RESCUE = """
WITH lost AS (
    SELECT id FROM jobs
     WHERE queue = $1 AND lease_expires_at <= statement_timestamp()
     ORDER BY lease_expires_at
     LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET lease_token = NULL, lease_expires_at = NULL
 WHERE id = ANY (ARRAY(SELECT id FROM lost))
RETURNING id
"""

# $1 queue. Returns seconds, or no row.
NEXT_DUE = """
SELECT extract(epoch FROM available_at - statement_timestamp())::float8 FROM jobs
 WHERE queue = $1 AND lease_expires_at IS NULL AND available_at > statement_timestamp()
 ORDER BY lease_expires_at, available_at
 LIMIT 1
"""

# $1 queue. Returns whether a job is executing or available.
BUSY = """
SELECT EXISTS (SELECT FROM jobs WHERE queue = $1 AND lease_expires_at IS NOT NULL)
    OR EXISTS (SELECT FROM jobs
                WHERE queue = $1 AND lease_expires_at IS NULL AND available_at <= statement_timestamp())
"""

# $1 queue. Returns available, scheduled, executing, retryable, and the age of the oldest in seconds.
STATS = """
WITH job AS (
    SELECT attempts, available_at, available_at <= statement_timestamp() AS due,
           lease_expires_at IS NOT NULL AS leased
      FROM jobs WHERE queue = $1
)
SELECT count(*) FILTER (WHERE NOT leased AND due),
       count(*) FILTER (WHERE NOT leased AND NOT due AND attempts = 0)
           + (SELECT count(*) FROM waiting_jobs WHERE queue = $1),
       count(*) FILTER (WHERE leased),
       count(*) FILTER (WHERE NOT leased AND NOT due AND attempts > 0),
       extract(epoch FROM statement_timestamp() - min(available_at) FILTER (WHERE NOT leased AND due))::float8
  FROM job
"""

# Returns the names of the queues that hold a job: one look into the index for each, however many jobs it has.
_QUEUES = """
WITH RECURSIVE name (queue) AS (
    SELECT min(queue) FROM {jobs}
    UNION ALL
    SELECT (SELECT min(jobs.queue) FROM {jobs} AS jobs WHERE jobs.queue > name.queue) FROM name
     WHERE name.queue IS NOT NULL
)
SELECT queue FROM name WHERE queue IS NOT NULL
"""
QUEUES = _QUEUES.format(jobs="jobs")
WAITING_QUEUES = _QUEUES.format(jobs="waiting_jobs")


class PostgresqlStatements:
    single = True
    chunk_bytes = 8 * 1024 * 1024

    def __init__(self) -> None:
        self._floors = Floors()

    async def push(self, connection: AsyncConnection, jobs: Sequence[NewJob], tell: Collection[str] = ()) -> None:
        if len(jobs) >= _COPY_FROM and is_direct(connection) and await _copy(connection, jobs):
            if tell:
                await notify(connection, tell)
            return
        columns = [(job.job_id, job.queue, payload_to_text(job.payload), float(job.delay)) for job in jobs]
        await _rows(connection, PUSH, *map(list, zip(*columns, strict=True)), list(tell))

    async def require_room(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
        """There is always room."""

    async def now(self, connection: AsyncConnection) -> datetime:
        now: datetime = first_column(await _rows(connection, _NOW))[0]
        return now

    async def fetch(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str
    ) -> list[FetchedJob]:
        async def take(floor: Any, count: int) -> Sequence[Any]:
            return await _rows(connection, FETCH, queue, count, token, float(lease), floor)

        return _fetched(await self._floors.fetch(queue, limit, take), queue, token)

    async def fetch_again(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str, lost: Sequence[str]
    ) -> list[FetchedJob]:
        taken = await _rows(connection, FETCH_AGAIN, queue, limit, token, float(lease), list(lost))
        return _fetched(taken, queue, token)

    async def remove(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        return set(first_column(await _rows(connection, REMOVE, *_columns(leases))))

    async def retry(self, connection: AsyncConnection, retries: Sequence[Retry]) -> set[str]:
        columns = _columns([each.lease for each in retries])
        delays = [float(each.delay) for each in retries]
        return set(first_column(await _rows(connection, RETRY, *columns, delays)))

    async def release(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        released = set(first_column(await _rows(connection, RELEASE, *_columns(leases))))
        for queue in {lease.queue for lease in leases}:
            self._floors.forget(queue)
        return released

    async def renew(self, connection: AsyncConnection, leases: Sequence[Lease], lease: float) -> set[str]:
        return set(first_column(await _rows(connection, RENEW, *_columns(leases), float(lease))))

    async def rescue(self, connection: AsyncConnection, queue: str, limit: int) -> int:
        self._floors.forget(queue)
        return len(await _rows(connection, RESCUE, queue, limit))

    async def next_due(self, connection: AsyncConnection, queue: str) -> float | None:
        return next(iter(first_column(await _rows(connection, NEXT_DUE, queue))), None)

    async def is_busy(self, connection: AsyncConnection, queue: str) -> bool:
        return bool(first_column(await _rows(connection, BUSY, queue))[0])

    async def queues(self, connection: AsyncConnection) -> list[str]:
        return first_column([*await _rows(connection, QUEUES), *await _rows(connection, WAITING_QUEUES)])

    async def stats(self, connection: AsyncConnection, queue: str) -> QueueStats:
        available, scheduled, executing, retryable, oldest = (await _rows(connection, STATS, queue))[0]
        return QueueStats(queue, available, scheduled, executing, retryable, oldest_seconds=oldest or 0.0)


async def notify(connection: AsyncConnection, queues: Collection[str]) -> None:
    """Tell every listener that something was pushed on these queues."""
    await _rows(connection, NOTIFY, list(queues))


async def _rows(connection: AsyncConnection, statement: str, *parameters: Any) -> Sequence[Any]:
    if not is_direct(connection):
        return await rows(connection, statement, *parameters)
    answer: Sequence[Any] = await call(connection, lambda driver: driver.fetch(statement, *parameters))
    return answer


def _fetched(taken: Sequence[Any], queue: str, token: str) -> list[FetchedJob]:
    return [
        FetchedJob(job_id, queue, text_to_payload(payload), attempts, token, turn)
        for _, job_id, payload, attempts, turn in taken
    ]


async def _copy(connection: AsyncConnection, jobs: Sequence[NewJob]) -> bool:
    """Write jobs by COPY: all, or none where one of them is there already; returns whether it did."""
    now = first_column(await _rows(connection, _NOW))[0]
    times = {delay: f"{now + timedelta(seconds=delay)}\t{now}" for delay in {job.delay for job in jobs}}
    queues = {name: _escaped(name) for name in {job.queue for job in jobs}}
    lines = [
        f"{job.job_id}\t{queues[job.queue]}\t{_escaped(payload_to_text(job.payload))}\t0\t{times[job.delay]}\n"
        for job in jobs
    ]
    text = memoryview("".join(lines).encode())  # asyncpg takes bytes for the name of a file
    try:
        await call(connection, lambda driver: driver.copy_to_table("jobs", source=text, columns=_COLUMNS))
    except IntegrityError:
        return False
    return True


def _escaped(text: str) -> str:
    """As COPY reads it: a backslash begins an escape, and tabs and line ends part fields and rows."""
    escaped = text.replace("\\", "\\\\")
    return escaped if escaped.isprintable() else escaped.translate(_CONTROLS)


def _columns(leases: Sequence[Lease]) -> tuple[list[str], list[str]]:
    return [lease.job_id for lease in leases], [lease.token for lease in leases]
