"""Unique keys: of the jobs that are pushed with one, only the first is stored, until its time is over.

The row of a key is locked from its claim to the end of the transaction. Whoever pushes another job with that key
meanwhile waits to hear whether the first is stored; keys are claimed in one order, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.by_key import delete_by_key, in_parts, select_by_key
from core.database.tables import jobs as jobs_table
from core.database.tables import unique_jobs, waiting_jobs
from core.database.upsert import insert_or_update
from core.queue.drivers.key_hash import key_hash
from core.queue.state import NewJob


async def claim(connection: AsyncConnection, jobs: Sequence[NewJob], now: datetime) -> Mapping[str, str]:
    """Claim the unique keys of jobs that are to be stored.

    Returns, by the ids of those that are not to be, the ids of the jobs that stand for them. A job stands for itself
    where its push is being repeated, even if it is done by now.
    """
    hashes = {job.job_id: key_hash(job.queue, job.unique_key) for job in jobs if job.unique_key is not None}
    # Their pushes are being repeated: nothing is to change, the windows of their keys no more than they themselves.
    stored = await _stored(connection, list(hashes))
    new = {job_id: name for job_id, name in hashes.items() if job_id not in stored}
    first: dict[str, NewJob] = {}
    for job in jobs:
        if job.job_id in new:
            first.setdefault(new[job.job_id], job)
    return {job_id: job_id for job_id in stored} | await _claim_new(connection, new, first, now)


async def _claim_new(
    connection: AsyncConnection, new: Mapping[str, str], first: Mapping[str, NewJob], now: datetime
) -> dict[str, str]:
    """The same for jobs that are not stored: their keys by their ids, and the first of them by its key."""
    if not first:
        return {}
    locked = await _lock(connection, first, now)
    free = {name: first[name] for name, row in locked.items() if row.expires_at <= now}
    await _take(connection, free, now)
    owners = {name: row.job_id for name, row in locked.items()} | {name: job.job_id for name, job in free.items()}
    stored_now = {job.job_id for job in free.values()}
    return {job_id: owners[name] for job_id, name in new.items() if job_id not in stored_now}


async def prune(connection: AsyncConnection, limit: int, now: datetime) -> None:
    """Delete at most so many keys whose time is over. Waits for nobody, so it may come last in a transaction."""
    expired = (
        select(unique_jobs.c.unique_hash)
        .where(unique_jobs.c.expires_at <= now)
        .order_by(unique_jobs.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .with_hint(unique_jobs, "FORCE INDEX (ix_unique_jobs_expires_at)", "mysql")
    )
    names = (await connection.scalars(expired)).all()
    await delete_by_key(connection, unique_jobs.c.unique_hash, names)


async def _lock(connection: AsyncConnection, first: Mapping[str, NewJob], now: datetime) -> dict[str, Row[Any]]:
    """Lock the rows of keys, and return them. What is new here is over, as is what is over: it is to be taken."""
    rows = [{"unique_hash": name, "job_id": job.job_id, "expires_at": now} for name, job in sorted(first.items())]
    keep = insert_or_update(
        connection.dialect.name, unique_jobs, "unique_hash", lambda _: {"job_id": unique_jobs.c.job_id}
    )
    await connection.execute(keep, rows)
    locked = await select_by_key(connection, select(unique_jobs), unique_jobs.c.unique_hash, list(first))
    return {row.unique_hash: row for row in locked}


async def _take(connection: AsyncConnection, free: Mapping[str, NewJob], now: datetime) -> None:
    """Give locked keys to jobs."""
    take = insert_or_update(
        connection.dialect.name,
        unique_jobs,
        "unique_hash",
        lambda new: {"job_id": new.job_id, "expires_at": new.expires_at},
    )
    rows = [
        {"unique_hash": name, "job_id": job.job_id, "expires_at": now + timedelta(seconds=job.unique_for)}
        for name, job in free.items()
    ]
    if rows:
        await connection.execute(take, rows)


async def _stored(connection: AsyncConnection, job_ids: Sequence[str]) -> set[str]:
    """Those of these jobs that are stored."""
    found: set[str] = set()
    for part in in_parts(job_ids):
        either = [select(table.c.job_id).where(table.c.job_id.in_(part)) for table in (jobs_table, waiting_jobs)]
        found.update(await connection.scalars(union_all(*either)))
    return found
