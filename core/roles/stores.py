"""Which stores a role can work with."""

from __future__ import annotations

from core.errors import SettingError
from core.settings import Settings


def refuse_memory(settings: Settings) -> None:
    """Queues in the memory of one process are seen by no other, and end with it: what was acknowledged is lost."""
    if settings.queue.connection == "memory":
        raise SettingError(
            "QUEUE_CONNECTION='memory' is not usable for a router or a worker: its jobs are seen by no other process, "
            "and lost with this one. It is for tests; set `redis` or `database` in the environment or in .env."
        )
