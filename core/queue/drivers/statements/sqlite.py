"""SQLite. Every verb is one statement under the database's write lock, which it takes before it reads.

The store's clock is that of the machine on which its file and all its processes are: a moment is made
here, to the microsecond, which SQLite's own functions do not reach. Batches travel as JSON. CROSS JOIN
fixes the order of the loops: the batch outside, the unique index on job_id inside.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.columns import payload_to_text, text_to_payload
from core.database.direct import call, is_direct
from core.queue.drivers.statements.rows import first_column, rows
from core.queue.state import FetchedJob, Lease, NewJob, QueueStats, Retry

_FORMAT = "%Y-%m-%d %H:%M:%S.%f"

# For each job: ? job id, queue, payload, moment when it is due, moment now.
_PUSH = """
INSERT INTO jobs (job_id, queue, payload, attempts, available_at, dispatched_at)
VALUES %s
ON CONFLICT (job_id) DO NOTHING
"""
_JOB = "(?, ?, ?, 0, ?, ?)"
PUSH = _PUSH % _JOB

_BLOCK = 100
"""Jobs that one run of a statement stores, where there are so many. For each, the thread gives up the interpreter, and
then has to wait for it while another thread is at work: that takes longer than to store a job."""
PUSH_BLOCK = _PUSH % ", ".join([_JOB] * _BLOCK)

# ? token, moment when the lease ends, queue, now, limit.
# Returns available_at, id, job id, payload, attempts and turn, in no order.
FETCH = """
UPDATE jobs SET attempts = attempts + 1, lease_token = ?, lease_expires_at = ?
 WHERE id IN (SELECT id FROM jobs
               WHERE queue = ? AND lease_expires_at IS NULL AND available_at <= ?
               ORDER BY lease_expires_at, available_at, id
               LIMIT ?)
RETURNING available_at, id, job_id, payload, attempts, turn
"""

# ? token, moment when the lease ends, queue, tokens under which the jobs are leased so far: a JSON array, limit.
# Returns as FETCH does.
FETCH_AGAIN = """
UPDATE jobs SET lease_token = ?, lease_expires_at = ?
 WHERE id IN (SELECT id FROM jobs
               WHERE queue = ? AND lease_expires_at IS NOT NULL
                 AND lease_token IN (SELECT value FROM json_each(?))
               ORDER BY available_at, id
               LIMIT ?)
RETURNING available_at, id, job_id, payload, attempts, turn
"""

# ? leases: JSON, an array of [job id, token]. Returns the job ids whose token was current.
REMOVE = """
DELETE FROM jobs
 WHERE id IN (SELECT jobs.id FROM json_each(?) AS lease CROSS JOIN jobs
               WHERE jobs.job_id = json_extract(lease.value, '$[0]')
                 AND jobs.lease_token = json_extract(lease.value, '$[1]'))
RETURNING job_id
"""

# ? leases, each with the moment when it is due behind its token. Returns as REMOVE does.
RETRY = """
UPDATE jobs
   SET lease_token = NULL, lease_expires_at = NULL, available_at = json_extract(lease.value, '$[2]')
  FROM json_each(?) AS lease
 WHERE jobs.job_id = json_extract(lease.value, '$[0]')
   AND jobs.lease_token = json_extract(lease.value, '$[1]')
RETURNING job_id
"""

# ? leases. Returns as REMOVE does.
RELEASE = """
UPDATE jobs SET lease_token = NULL, lease_expires_at = NULL, attempts = attempts - 1
 WHERE id IN (SELECT jobs.id FROM json_each(?) AS lease CROSS JOIN jobs
               WHERE jobs.job_id = json_extract(lease.value, '$[0]')
                 AND jobs.lease_token = json_extract(lease.value, '$[1]'))
RETURNING job_id
"""

# ? moment when the leases end, leases. Returns as REMOVE does.
RENEW = """
UPDATE jobs SET lease_expires_at = ?
 WHERE id IN (SELECT jobs.id FROM json_each(?) AS lease CROSS JOIN jobs
               WHERE jobs.job_id = json_extract(lease.value, '$[0]')
                 AND jobs.lease_token = json_extract(lease.value, '$[1]'))
RETURNING job_id
"""

# ? queue, now, limit. Returns a row per job.
RESCUE = """
UPDATE jobs SET lease_token = NULL, lease_expires_at = NULL
 WHERE id IN (SELECT id FROM jobs WHERE queue = ? AND lease_expires_at <= ? ORDER BY lease_expires_at LIMIT ?)
RETURNING id
"""

# ? queue, now. Returns a moment, or no row.
NEXT_DUE = """
SELECT available_at FROM jobs
 WHERE queue = ? AND lease_expires_at IS NULL AND available_at > ?
 ORDER BY lease_expires_at, available_at
 LIMIT 1
"""

# ? queue, queue, now. Returns whether a job is executing or available.
BUSY = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE queue = ? AND lease_expires_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM jobs WHERE queue = ? AND lease_expires_at IS NULL AND available_at <= ?)
"""

# ? now, queue, queue. Returns available, scheduled, executing, retryable, and since when the oldest is available.
STATS = """
WITH job AS (
    SELECT attempts, available_at, available_at <= ? AS due, lease_expires_at IS NOT NULL AS leased
      FROM jobs WHERE queue = ?
)
SELECT count(*) FILTER (WHERE NOT leased AND due),
       count(*) FILTER (WHERE NOT leased AND NOT due AND attempts = 0)
           + (SELECT count(*) FROM waiting_jobs WHERE queue = ?),
       count(*) FILTER (WHERE leased),
       count(*) FILTER (WHERE NOT leased AND NOT due AND attempts > 0),
       min(available_at) FILTER (WHERE NOT leased AND due)
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


class SqliteStatements:
    single = True
    chunk_bytes = 8 * 1024 * 1024

    async def push(self, connection: AsyncConnection, jobs: Sequence[NewJob], tell: Collection[str] = ()) -> None:
        now = datetime.now(UTC)
        due = {delay: _text(now + timedelta(seconds=delay)) for delay in {0.0, *(job.delay for job in jobs)}}
        new = [(job.job_id, job.queue, payload_to_text(job.payload), due[job.delay], due[0.0]) for job in jobs]
        if is_direct(connection):
            await call(connection, lambda driver: driver._execute(_push, driver._conn, new))  # noqa: SLF001
        else:
            await connection.exec_driver_sql(PUSH, new)

    async def require_room(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
        """There is always room."""

    async def now(self, connection: AsyncConnection) -> datetime:
        return datetime.now(UTC)

    async def fetch(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str
    ) -> list[FetchedJob]:
        taken = await _rows(connection, FETCH, token, moment(lease), queue, moment(), limit)
        return _fetched(taken, queue, token)

    async def fetch_again(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str, lost: Sequence[str]
    ) -> list[FetchedJob]:
        taken = await _rows(connection, FETCH_AGAIN, token, moment(lease), queue, json.dumps(lost), limit)
        return _fetched(taken, queue, token)

    async def remove(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        return set(first_column(await _rows(connection, REMOVE, _json(leases))))

    async def retry(self, connection: AsyncConnection, retries: Sequence[Retry]) -> set[str]:
        due = [(each.lease.job_id, each.lease.token, moment(each.delay)) for each in retries]
        return set(first_column(await _rows(connection, RETRY, json.dumps(due))))

    async def release(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        return set(first_column(await _rows(connection, RELEASE, _json(leases))))

    async def renew(self, connection: AsyncConnection, leases: Sequence[Lease], lease: float) -> set[str]:
        return set(first_column(await _rows(connection, RENEW, moment(lease), _json(leases))))

    async def rescue(self, connection: AsyncConnection, queue: str, limit: int) -> int:
        return len(await _rows(connection, RESCUE, queue, moment(), limit))

    async def next_due(self, connection: AsyncConnection, queue: str) -> float | None:
        due = first_column(await _rows(connection, NEXT_DUE, queue, moment()))
        return -_age(due[0]) if due else None

    async def is_busy(self, connection: AsyncConnection, queue: str) -> bool:
        return bool(first_column(await _rows(connection, BUSY, queue, queue, moment()))[0])

    async def queues(self, connection: AsyncConnection) -> list[str]:
        return first_column([*await _rows(connection, QUEUES), *await _rows(connection, WAITING_QUEUES)])

    async def stats(self, connection: AsyncConnection, queue: str) -> QueueStats:
        found = await _rows(connection, STATS, moment(), queue, queue)
        available, scheduled, executing, retryable, oldest = found[0]
        return QueueStats(
            queue, available, scheduled, executing, retryable, oldest_seconds=_age(oldest) if oldest else 0.0
        )


async def _rows(connection: AsyncConnection, statement: str, *parameters: Any) -> Sequence[Any]:
    """The rows that a statement returns; outside of a transaction, it is committed in the same visit to the thread."""
    if not is_direct(connection):
        return await rows(connection, statement, *parameters)
    answer: Sequence[Any] = await call(
        connection,
        lambda driver: driver._execute(_run, driver._conn, statement, parameters),  # noqa: SLF001
    )
    return answer


def _run(connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> list[Any]:
    with connection, closing(connection.execute(statement, parameters)) as cursor:
        return cursor.fetchall()


def _push(connection: sqlite3.Connection, new: Sequence[Sequence[Any]]) -> None:
    whole = len(new) - len(new) % _BLOCK
    with connection, closing(connection.cursor()) as cursor:
        for start in range(0, whole, _BLOCK):
            cursor.execute(PUSH_BLOCK, list(chain.from_iterable(new[start : start + _BLOCK])))
        cursor.executemany(PUSH, new[whole:])


def _fetched(taken: Sequence[Any], queue: str, token: str) -> list[FetchedJob]:
    return [
        FetchedJob(job_id, queue, text_to_payload(payload), attempts, token, turn)
        for _, _, job_id, payload, attempts, turn in sorted(taken)
    ]


def moment(delay: float = 0.0) -> str:
    """The moment `delay` seconds from now, as the columns hold it: in UTC, and sorted as text as in time."""
    return _text(datetime.now(UTC) + timedelta(seconds=delay))


def _text(moment: datetime) -> str:
    return moment.strftime(_FORMAT)


def _age(then: str) -> float:
    return (datetime.now(UTC) - datetime.strptime(then, _FORMAT).replace(tzinfo=UTC)).total_seconds()


def _json(leases: Sequence[Lease]) -> str:
    return json.dumps([(lease.job_id, lease.token) for lease in leases])
