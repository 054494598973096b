"""What a worker is told."""

from __future__ import annotations

from dataclasses import dataclass

from core.queue.worker.queue_order import QueueOrder


@dataclass(frozen=True)
class WorkerOptions:
    queues: QueueOrder
    concurrency: int = 10
    """Jobs side by side."""
    lease: float = 15.0
    """Seconds."""
    sleep: float = 3.0
    """Seconds between polls of an idle worker that no wake-up reaches."""
    grace: float = 25.0
    """Seconds that running jobs get to end after a stop."""
    blocked_loop_warning: float = 0.0
    """Seconds after which a job that blocks the event loop is named in the log; 0 for never."""
    max_jobs: int | None = None
    """Stop after so many jobs."""
    max_time: float | None = None
    """Stop after so many seconds."""
    memory: float | None = None
    """Stop beyond so many MB of resident memory."""
    stop_when_empty: bool = False
    """Stop when no job of the queues is available or executing."""
