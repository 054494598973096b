"""The example's table: readings.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.database.columns import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """May be repeated: MySQL keeps what was made before a migration was interrupted."""
    op.create_table(
        "readings",
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("sensor", sa.String(64), nullable=False),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("site", "sensor", "taken_at"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",  # pump-7 and PUMP-7 are two sensors, as they are two topics
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("readings")
