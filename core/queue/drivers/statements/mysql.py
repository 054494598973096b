"""MySQL 8 and MariaDB 10.6 or later. Without UPDATE … RETURNING, a verb locks rows, then changes them by id.

Transactions are READ COMMITTED: only the rows found are locked, and no gaps between them. Moments are
UTC_TIMESTAMP(6), whatever the session's time zone; spans go in as whole microseconds. IN lists are
bounded by the driver's batches. The indexes are named since a lock is taken on every row that is read on
the way: in a small table the planner would read, and lock, all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.columns import payload_to_text, text_to_payload
from core.database.packet import ALWAYS_FITS, escaped_size, packet_room
from core.errors import PayloadTooLargeError
from core.queue.drivers.statements.floors import Floors
from core.queue.drivers.statements.rows import first_column, rows
from core.queue.state import FetchedJob, Lease, NewJob, QueueStats, Retry

# Per job: job id, queue, payload, delay in microseconds. Ids are given out in the order of the rows.
# ON DUPLICATE KEY changes nothing, and unlike INSERT IGNORE hides no other error.
PUSH = """
INSERT INTO jobs (job_id, queue, payload, attempts, available_at, dispatched_at)
VALUES {rows}
ON DUPLICATE KEY UPDATE job_id = VALUES(job_id)
"""
PUSH_ROW = "(%s, %s, %s, 0, UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND, UTC_TIMESTAMP(6))"

# Queue, moment before which it does not look, limit. Returns available_at, id, job id, payload, attempts so far and
# turn, in order; the rows are locked.
NEXT = """
SELECT available_at, id, job_id, payload, attempts, turn FROM jobs FORCE INDEX (ix_jobs_next)
 WHERE queue = %s AND lease_expires_at IS NULL AND available_at BETWEEN %s AND UTC_TIMESTAMP(6)
 ORDER BY available_at, id
 LIMIT %s FOR UPDATE SKIP LOCKED
"""

# Token, lease in microseconds, ids.
TAKE = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET attempts = attempts + 1, lease_token = %s,
       lease_expires_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN ({ids})
"""

# Queue, tokens, limit. Returns as NEXT does, of jobs that are leased under these tokens.
NEXT_AGAIN = """
SELECT available_at, id, job_id, payload, attempts, turn FROM jobs FORCE INDEX (ix_jobs_next)
 WHERE queue = %s AND lease_expires_at IS NOT NULL AND lease_token IN ({tokens})
 ORDER BY available_at, id
 LIMIT %s FOR UPDATE SKIP LOCKED
"""

# Token, lease in microseconds, ids.
TAKE_AGAIN = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET lease_token = %s, lease_expires_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN ({ids})
"""

# Job ids. Returns id, job id and token; the rows are locked.
HELD = """
SELECT id, job_id, lease_token FROM jobs FORCE INDEX (uq_jobs_job_id) WHERE job_id IN ({ids}) FOR UPDATE
"""

# Ids, and how many. A DELETE takes no index by name, or reads all of a small table in spite of it; the order and the
# limit lead it through the ids alone.
REMOVE = "DELETE FROM jobs WHERE id IN ({ids}) ORDER BY id LIMIT {count}"

# An id and a delay in microseconds per job, then ids.
RETRY = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET lease_token = NULL, lease_expires_at = NULL,
       available_at = UTC_TIMESTAMP(6) + INTERVAL (CASE id {delays} END) MICROSECOND
 WHERE id IN ({ids})
"""

# Ids.
RELEASE = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET lease_token = NULL, lease_expires_at = NULL, attempts = attempts - 1
 WHERE id IN ({ids})
"""

# Lease in microseconds, ids.
RENEW = """
UPDATE jobs FORCE INDEX (PRIMARY)
   SET lease_expires_at = UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND
 WHERE id IN ({ids})
"""

# Queue, limit. Returns ids; the rows are locked. A lease being renewed or ended is locked, and left alone.
LOST = """
SELECT id FROM jobs FORCE INDEX (ix_jobs_next)
 WHERE queue = %s AND lease_expires_at <= UTC_TIMESTAMP(6)
 ORDER BY lease_expires_at
 LIMIT %s FOR UPDATE SKIP LOCKED
"""

# Ids.
RESCUE = """
UPDATE jobs FORCE INDEX (PRIMARY) SET lease_token = NULL, lease_expires_at = NULL WHERE id IN ({ids})
"""

# Queue. Returns microseconds, or no row.
NEXT_DUE = """
SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), available_at) FROM jobs FORCE INDEX (ix_jobs_next)
 WHERE queue = %s AND lease_expires_at IS NULL AND available_at > UTC_TIMESTAMP(6)
 ORDER BY available_at
 LIMIT 1
"""

# Queue, twice. Returns whether a job is executing or available.
BUSY = """
SELECT EXISTS (SELECT 1 FROM jobs FORCE INDEX (ix_jobs_next) WHERE queue = %s AND lease_expires_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM jobs FORCE INDEX (ix_jobs_next)
                WHERE queue = %s AND lease_expires_at IS NULL AND available_at <= UTC_TIMESTAMP(6))
"""

# Queue, twice. Returns available, scheduled, executing, retryable, and the age of the oldest in microseconds.
STATS = """
WITH job AS (
    SELECT attempts, available_at, available_at <= UTC_TIMESTAMP(6) AS due,
           lease_expires_at IS NOT NULL AS leased
      FROM jobs WHERE queue = %s
)
SELECT COUNT(IF(NOT leased AND due, 1, NULL)),
       COUNT(IF(NOT leased AND NOT due AND attempts = 0, 1, NULL))
           + (SELECT COUNT(*) FROM waiting_jobs WHERE queue = %s),
       COUNT(IF(leased, 1, NULL)),
       COUNT(IF(NOT leased AND NOT due AND attempts > 0, 1, NULL)),
       TIMESTAMPDIFF(MICROSECOND, MIN(IF(NOT leased AND due, available_at, NULL)), UTC_TIMESTAMP(6))
  FROM job
"""

# A queue. Returns the name of the next one that holds a job, if any: one look into the index.
NEXT_QUEUE = "SELECT queue FROM jobs FORCE INDEX (ix_jobs_next) WHERE queue > %s ORDER BY queue LIMIT 1"
NEXT_WAITING_QUEUE = """
SELECT queue FROM waiting_jobs FORCE INDEX (ix_waiting_jobs_queue) WHERE queue > %s ORDER BY queue LIMIT 1
"""

NOW = "SELECT UTC_TIMESTAMP(6)"


_LONG_AGO = "1970-01-01 00:00:00"


class MysqlStatements:
    single = False
    chunk_bytes = ALWAYS_FITS

    def __init__(self) -> None:
        self._floors = Floors()

    async def push(self, connection: AsyncConnection, jobs: Sequence[NewJob], tell: Collection[str] = ()) -> None:
        if len(jobs) == 1:  # such as no other has room beside
            await self.require_room(connection, jobs)
        new = [_columns(job) for job in jobs]
        statement = PUSH.format(rows=", ".join([PUSH_ROW] * len(new)))
        await connection.exec_driver_sql(statement, tuple(value for row in new for value in row))

    async def require_room(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
        for job in jobs:
            if len(job.payload) > ALWAYS_FITS:
                await _require_room(connection, job)

    async def now(self, connection: AsyncConnection) -> datetime:
        now: datetime = first_column(await rows(connection, NOW))[0]
        return now.replace(tzinfo=UTC)

    async def fetch(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str
    ) -> list[FetchedJob]:
        async def take(floor: Any, count: int) -> Sequence[Any]:
            available = await rows(connection, NEXT, queue, floor or _LONG_AGO, count)
            await _change(connection, TAKE, [row[1] for row in available], token, _microseconds(lease))
            return available

        return [
            FetchedJob(job_id, queue, text_to_payload(payload), attempts + 1, token, turn)
            for _, _, job_id, payload, attempts, turn in await self._floors.fetch(queue, limit, take)
        ]

    async def fetch_again(
        self, connection: AsyncConnection, queue: str, limit: int, lease: float, token: str, lost: Sequence[str]
    ) -> list[FetchedJob]:
        leased = await rows(connection, NEXT_AGAIN.format(tokens=_places(len(lost))), queue, *lost, limit)
        await _change(connection, TAKE_AGAIN, [row[1] for row in leased], token, _microseconds(lease))
        return [
            FetchedJob(job_id, queue, text_to_payload(payload), attempts, token, turn)
            for _, _, job_id, payload, attempts, turn in leased
        ]

    async def remove(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        held = await _lock_held(connection, leases)
        await _change(connection, REMOVE, list(held.values()))
        return _job_ids(held)

    async def retry(self, connection: AsyncConnection, retries: Sequence[Retry]) -> set[str]:
        held = await _lock_held(connection, [each.lease for each in retries])
        delays = {held[each.lease]: _microseconds(each.delay) for each in retries if each.lease in held}
        statement = RETRY.replace("{delays}", " ".join(["WHEN %s THEN %s"] * len(delays)))
        await _change(connection, statement, list(delays), *chain.from_iterable(delays.items()))
        return _job_ids(held)

    async def release(self, connection: AsyncConnection, leases: Sequence[Lease]) -> set[str]:
        held = await _lock_held(connection, leases)
        await _change(connection, RELEASE, list(held.values()))
        for lease in held:
            self._floors.forget(lease.queue)
        return _job_ids(held)

    async def renew(self, connection: AsyncConnection, leases: Sequence[Lease], lease: float) -> set[str]:
        held = await _lock_held(connection, leases)
        await _change(connection, RENEW, list(held.values()), _microseconds(lease))
        return _job_ids(held)

    async def rescue(self, connection: AsyncConnection, queue: str, limit: int) -> int:
        self._floors.forget(queue)
        lost = first_column(await rows(connection, LOST, queue, limit))
        await _change(connection, RESCUE, lost)
        return len(lost)

    async def next_due(self, connection: AsyncConnection, queue: str) -> float | None:
        microseconds = first_column(await rows(connection, NEXT_DUE, queue))
        return microseconds[0] / 1e6 if microseconds else None

    async def is_busy(self, connection: AsyncConnection, queue: str) -> bool:
        return bool(first_column(await rows(connection, BUSY, queue, queue))[0])

    async def queues(self, connection: AsyncConnection) -> list[str]:
        return [*await _names(connection, NEXT_QUEUE), *await _names(connection, NEXT_WAITING_QUEUE)]

    async def stats(self, connection: AsyncConnection, queue: str) -> QueueStats:
        available, scheduled, executing, retryable, oldest = (await rows(connection, STATS, queue, queue))[0]
        return QueueStats(queue, available, scheduled, executing, retryable, oldest_seconds=(oldest or 0) / 1e6)


async def _names(connection: AsyncConnection, following: str) -> list[str]:
    """The names of queues, each asked for by the one before."""
    names = [""]
    while name := first_column(await rows(connection, following, names[-1])):
        names += name
    return names[1:]


async def _lock_held(connection: AsyncConnection, leases: Sequence[Lease]) -> dict[Lease, int]:
    """Lock the jobs of these leases; returns the row ids of those leases that are current."""
    job_ids = {lease.job_id for lease in leases}
    locked = await rows(connection, HELD.format(ids=_places(len(job_ids))), *job_ids)
    current = {(job_id, token): row_id for row_id, job_id, token in locked}
    keys = {lease: (lease.job_id, lease.token) for lease in leases}
    return {lease: current[key] for lease, key in keys.items() if key in current}


def _job_ids(held: dict[Lease, int]) -> set[str]:
    return {lease.job_id for lease in held}


async def _change(connection: AsyncConnection, statement: str, ids: Sequence[int], *values: Any) -> None:
    """Run a statement that ends in a list of row ids; none means that there is nothing to do."""
    if ids:
        await connection.exec_driver_sql(statement.format(ids=_places(len(ids)), count=len(ids)), (*values, *ids))


def _columns(job: NewJob) -> tuple[str, str, str, int]:
    return job.job_id, job.queue, payload_to_text(job.payload), _microseconds(job.delay)


async def _require_room(connection: AsyncConnection, job: NewJob) -> None:
    """As much again as ALWAYS_FITS stays free, for the traceback beside it should the job fail."""
    size, room = escaped_size(payload_to_text(job.payload)), await packet_room(connection) - ALWAYS_FITS
    if size > room:
        raise PayloadTooLargeError(
            f"The payload of job {job.job_id} on queue {job.queue} takes {size} bytes in a statement; "
            f"the server's max_allowed_packet leaves {room}. Raise max_allowed_packet on the MySQL server, "
            "or store the data elsewhere and dispatch a reference."
        )


def _places(count: int) -> str:
    return ", ".join(["%s"] * count)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
