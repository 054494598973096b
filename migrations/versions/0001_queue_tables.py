"""The queue's tables: jobs and failed_jobs.

Revision: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from core.database.columns import LongText, PayloadText, RowId, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_jobs_next": ("jobs", ["queue", "lease_expires_at", "available_at", "id", "attempts"]),
    "ix_failed_jobs_failed_at": ("failed_jobs", ["failed_at"]),
    "ix_failed_jobs_connection_queue": ("failed_jobs", ["connection", "queue"]),
}


def upgrade() -> None:
    """May be repeated: MySQL keeps what was made before a migration was interrupted."""
    _create_jobs()
    _create_failed_jobs()
    inspector = sa.inspect(op.get_bind())
    for name, (table, columns) in _INDEXES.items():
        if name not in {index["name"] for index in inspector.get_indexes(table)}:
            op.create_index(name, table, columns)
    if op.get_bind().dialect.name == "postgresql":
        # A queue turns over all of its rows; the default waits until a fifth of the table is dead.
        op.execute("ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0)")


def downgrade() -> None:
    op.drop_table("jobs")
    op.drop_table("failed_jobs")


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(191), nullable=False),
        sa.Column("lease_expires_at", UtcDateTime()),
        sa.Column("available_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("lease_token", sa.String(32)),
        sa.Column("dispatched_at", UtcDateTime(), nullable=False),
        sa.Column("payload", PayloadText(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", name="uq_jobs_job_id"),
        **_options(),
    )


def _create_failed_jobs() -> None:
    op.create_table(
        "failed_jobs",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("connection", sa.String(32), nullable=False),
        sa.Column("queue", sa.String(191), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("payload", PayloadText(), nullable=False),
        sa.Column("exception", LongText, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", name="uq_failed_jobs_job_id"),
        **_options(),
    )


def _options() -> dict[str, Any]:
    """On MySQL a binary collation without padding, lest `emails`, `Emails` and `emails ` be one queue."""
    is_mariadb = getattr(op.get_bind().dialect, "is_mariadb", False)
    return {
        "sqlite_autoincrement": True,
        "mysql_engine": "InnoDB",
        "mysql_charset": "utf8mb4",
        "mysql_collate": "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin",
        "if_not_exists": True,
    }
