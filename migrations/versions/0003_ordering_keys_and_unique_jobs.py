"""Ordering keys and unique jobs: waiting_jobs, turns, arrivals, unique_jobs, and a column of jobs.

Revision: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from core.database.columns import Hash, PayloadText, RowId, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("waiting_jobs", "turns", "arrivals", "unique_jobs")
_INDEXES = {
    "ix_waiting_jobs_queue": ("waiting_jobs", ["queue"]),
    "ix_waiting_jobs_turn_id": ("waiting_jobs", ["turn", "id"]),
    "ix_arrivals_queue_id": ("arrivals", ["queue", "id"]),
    "ix_unique_jobs_expires_at": ("unique_jobs", ["expires_at"]),
}
_AUTOVACUUM = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0"
_LET_THROUGH = """
INSERT INTO jobs (job_id, queue, available_at, dispatched_at, payload, attempts)
SELECT job_id, queue, available_at, dispatched_at, payload, 0 FROM waiting_jobs
 WHERE job_id NOT IN (SELECT job_id FROM jobs)
 ORDER BY id
"""


def upgrade() -> None:
    """May be repeated: MySQL keeps what was made before a migration was interrupted."""
    if not _jobs_has_turn():
        op.add_column("jobs", sa.Column("turn", Hash))
    _create_waiting_jobs()
    _create_turns()
    _create_arrivals()
    _create_unique_jobs()
    inspector = sa.inspect(op.get_bind())
    for name, (table, columns) in _INDEXES.items():
        if name not in {index["name"] for index in inspector.get_indexes(table)}:
            op.create_index(name, table, columns)
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:  # which turn over all of their rows, as jobs does
            op.execute(f"ALTER TABLE {table} SET ({_AUTOVACUUM})")


def downgrade() -> None:
    """Jobs that wait for their turn are available from then on: the version before knows of no order."""
    if sa.inspect(op.get_bind()).has_table("waiting_jobs"):
        op.execute(_LET_THROUGH)
    for table in _TABLES:
        op.drop_table(table, if_exists=True)
    if _jobs_has_turn():
        op.drop_column("jobs", "turn")


def _jobs_has_turn() -> bool:
    return "turn" in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("jobs")}


def _create_waiting_jobs() -> None:
    op.create_table(
        "waiting_jobs",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(191), nullable=False),
        sa.Column("turn", Hash, nullable=False),
        sa.Column("available_at", UtcDateTime(), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("dispatched_at", UtcDateTime(), nullable=False),
        sa.Column("payload", PayloadText(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", name="uq_waiting_jobs_job_id"),
        sqlite_autoincrement=True,
        **_options(),
    )


def _create_turns() -> None:
    op.create_table(
        "turns",
        sa.Column("turn", Hash, nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("turn"),
        **_options(),
    )


def _create_arrivals() -> None:
    op.create_table(
        "arrivals",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(191), nullable=False),
        sa.Column("turn", Hash, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        **_options(),
    )


def _create_unique_jobs() -> None:
    op.create_table(
        "unique_jobs",
        sa.Column("unique_hash", Hash, nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("unique_hash"),
        **_options(),
    )


def _options() -> dict[str, Any]:
    """As for the tables of 0001."""
    is_mariadb = getattr(op.get_bind().dialect, "is_mariadb", False)
    return {
        "mysql_engine": "InnoDB",
        "mysql_charset": "utf8mb4",
        "mysql_collate": "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin",
        "if_not_exists": True,
    }
