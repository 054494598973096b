"""Unique keys: of the jobs that are pushed with one, only the first is stored, until its time is over.

The row of a key is locked from its claim to the end of the transaction. Whoever pushes another job with that key
meanwhile waits to hear whether the first is stored; keys are claimed in one order, so that no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.by_key import delete_by_key, select_by_key
from core.database.tables import jobs as jobs_table
from core.database.tables import unique_jobs, waiting_jobs
from core.database.upsert import insert_or_update
from core.queue.drivers.key_hash import key_hash
from core.queue.state import NewJob


async def claim(connection: AsyncConnection, jobs: Sequence[NewJob], now: datetime) -> Mapping[str, str]:
    """Claim the unique keys of jobs that are to be stored.

    Returns, by the ids of those that are not to be, the ids of the jobs that stand for them. One that has claimed its
    key before, in a push that is being repeated, and is stored no longer, stands for itself.
    """
    hashes = {job.job_id: key_hash(job.queue, job.unique_key) for job in jobs if job.unique_key is not None}
    first: dict[str, NewJob] = {}
    for job in jobs:
        if job.job_id in hashes:
            first.setdefault(hashes[job.job_id], job)
    claimed = await _claimed(connection, first, now)
    holders = await _lock(connection, first, now)
    beaten = {job_id: holders[name] for job_id, name in hashes.items() if holders[name] != job_id or job_id in claimed}
    if not beaten:
        return beaten
    return {job_id: beaten[job_id] for job_id in beaten.keys() - await _stored(connection, list(beaten))}


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


async def _claimed(connection: AsyncConnection, first: Mapping[str, NewJob], now: datetime) -> set[str]:
    """The ids of those jobs that have their keys already."""
    rows = await select_by_key(connection, select(unique_jobs), unique_jobs.c.unique_hash, list(first))
    return {row.job_id for row in rows if row.job_id == first[row.unique_hash].job_id and row.expires_at > now}


async def _lock(connection: AsyncConnection, first: Mapping[str, NewJob], now: datetime) -> dict[str, str]:
    """Lock the rows of keys, which are given to `first` where they are free; returns who has each."""
    rows = {
        name: {"unique_hash": name, "job_id": job.job_id, "expires_at": now + timedelta(seconds=job.unique_for)}
        for name, job in sorted(first.items())
    }
    dialect = connection.dialect.name
    keep = insert_or_update(dialect, unique_jobs, "unique_hash", lambda _: {"job_id": unique_jobs.c.job_id})
    await connection.execute(keep, list(rows.values()))
    locked = await select_by_key(connection, select(unique_jobs), unique_jobs.c.unique_hash, list(rows))
    expired = [rows[row.unique_hash] for row in locked if row.expires_at <= now]
    if expired:
        take = insert_or_update(
            dialect, unique_jobs, "unique_hash", lambda new: {"job_id": new.job_id, "expires_at": new.expires_at}
        )
        await connection.execute(take, expired)
    return {row.unique_hash: row.job_id for row in locked} | {row["unique_hash"]: row["job_id"] for row in expired}


async def _stored(connection: AsyncConnection, job_ids: Sequence[str]) -> set[str]:
    """Those of these jobs that are stored: pushed again, when their key is another's by now."""
    found = [
        await select_by_key(connection, select(table.c.job_id), table.c.job_id, job_ids)
        for table in (jobs_table, waiting_jobs)
    ]
    return {row.job_id for rows in found for row in rows}
