"""The framework's tables, the same on SQLite, PostgreSQL and MySQL. Times are UTC.

jobs holds every job that is not finished. Its state is told by two columns, so that time alone moves a
job on and no second write can be lost:

    lease_expires_at   available_at   attempts   state
    NULL               past           any        available
    NULL               future         0          scheduled
    NULL               future         > 0        retryable
    set                any            > 0        executing, under lease_token

One index serves every verb. The queue and the absence of a lease lead straight to the jobs that may be
fetched, in the order in which they are fetched, and past them to those not due yet; the leased ones
stand apart, by the end of their lease, where the rescuer finds those that ran out. Attempts come last
so that counting states reads the index alone. It needs no partial index, which MySQL has not.

Of the jobs with one ordering key, jobs holds the one that has its turn. Those behind it stand in waiting_jobs, in the
order of their ids, so that no fetch comes across them; they count as scheduled. turns tells who has the turn: its row
is locked by whoever gives the turn, and goes with the last job of its key. arrivals lists keys with which a transaction
of the app's stored jobs, until somebody has seen to their turn.

unique_jobs remembers unique keys, and the job that each stands for, until they expire.

Ordering keys and unique keys may be any text of any length: the tables hold a hash of queue and key (`turn` and
`unique_hash`).
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, String, Table

from core.database.columns import Hash, LongText, PayloadText, RowId, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
}
"""So that every dialect calls a constraint by the same name, and a migration can drop it."""

metadata = MetaData(naming_convention=NAMING)

jobs = Table(
    "jobs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("queue", String(191), nullable=False),
    Column("lease_expires_at", UtcDateTime),
    Column("available_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("job_id", String(36), nullable=False, unique=True),
    Column("lease_token", String(32)),
    Column("dispatched_at", UtcDateTime, nullable=False),
    Column("payload", PayloadText, nullable=False),
    Column("turn", Hash),
    Index("ix_jobs_next", "queue", "lease_expires_at", "available_at", "id", "attempts"),
    sqlite_autoincrement=True,  # an id never comes back, and the sequence tells that something was pushed
)

waiting_jobs = Table(
    "waiting_jobs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("queue", String(191), nullable=False),
    Column("turn", Hash, nullable=False),
    Column("available_at", UtcDateTime, nullable=False),
    Column("job_id", String(36), nullable=False, unique=True),
    Column("dispatched_at", UtcDateTime, nullable=False),
    Column("payload", PayloadText, nullable=False),
    Index("ix_waiting_jobs_queue", "queue"),
    Index("ix_waiting_jobs_turn_id", "turn", "id"),
    sqlite_autoincrement=True,
)

turns = Table(
    "turns",
    metadata,
    Column("turn", Hash, primary_key=True),
    Column("job_id", String(36), nullable=False),
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("queue", String(191), nullable=False),
    Column("turn", Hash, nullable=False),
    Index("ix_arrivals_queue_id", "queue", "id"),
    sqlite_autoincrement=True,
)

unique_jobs = Table(
    "unique_jobs",
    metadata,
    Column("unique_hash", Hash, primary_key=True),
    Column("job_id", String(36), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_unique_jobs_expires_at", "expires_at"),
)

failed_jobs = Table(
    "failed_jobs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("job_id", String(36), nullable=False, unique=True),
    Column("connection", String(32), nullable=False),
    Column("queue", String(191), nullable=False),
    Column("job", String(255), nullable=False),
    Column("payload", PayloadText, nullable=False),
    Column("exception", LongText, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failed_at", UtcDateTime, nullable=False),
    Index("ix_failed_jobs_failed_at", "failed_at"),
    Index("ix_failed_jobs_connection_queue", "connection", "queue"),
    sqlite_autoincrement=True,
)
