"""failed_jobs as a model, for the app's own queries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Mapped

from core.database.bound import bound_database
from core.database.model import Model
from core.database.tables import failed_jobs
from core.queue.failures import DatabaseFailureStore


class QueueFailedJob(Model):
    """A job that was given up. `payload` is as it was dispatched, `exception` the whole traceback."""

    __table__ = failed_jobs

    id: Mapped[int]
    job_id: Mapped[str]
    connection: Mapped[str]
    queue: Mapped[str]
    job: Mapped[str]
    payload: Mapped[bytes]
    exception: Mapped[str]
    attempts: Mapped[int]
    failed_at: Mapped[datetime]


async def cleanup_old_failed_jobs(days: float = 30) -> int:
    """Delete the rows of failed_jobs that are older than `days`; returns how many there were."""
    return await DatabaseFailureStore(bound_database()).prune(datetime.now(UTC) - timedelta(days=days))
