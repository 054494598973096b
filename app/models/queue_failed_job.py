"""The framework's record of failed jobs, next to the app's own models."""

from __future__ import annotations

from core.queue.failed_job_model import QueueFailedJob, cleanup_old_failed_jobs

__all__ = ["QueueFailedJob", "cleanup_old_failed_jobs"]
