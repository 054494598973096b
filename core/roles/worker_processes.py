"""`--queue-work --processes N`: a supervisor and N workers, each a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from core.application import Application
from core.observability.health import showing_health
from core.queue.worker.worker import LAST_WORDS
from core.roles.signals import on_stop_signal
from core.roles.stores import refuse_memory
from core.roles.supervisor import Supervisor
from core.tasks import first_of, unless

CLOSING = 5.0
"""Seconds, beyond the grace and its last words, that a worker gets to close its connections."""


class WorkerProcesses:
    """Runs workers 1 to `count` until it is stopped, until `max_time` is over or, where they `may_end`, until
    they have ended."""

    def __init__(
        self, app: Application, count: int, options: Sequence[str], *, max_time: float | None = None, may_end: bool
    ) -> None:
        """`options` are those of `--queue-work` for each worker."""
        self._app = app
        self._max_time = max_time
        self._grace = app.settings.app.grace + LAST_WORDS + CLOSING
        self._health_file = app.settings.app.health_file
        self._supervisor = Supervisor(
            "worker",
            count,
            app.events,
            command=lambda _: (sys.executable, sys.argv[0], "queue-work", "--supervised", *options),
            health_file=self._health_file,
            may_end=may_end,
        )
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let running jobs end within the grace; called again, have them handed back at once."""
        if self._stopping.is_set():
            self._supervisor.signal_stop()
        self._stopping.set()

    async def run(self, *, start_timeout: float | None = None, connection: str | None = None) -> bool:
        """Wait for the stores, once for all of them, and keep the workers running.

        Returns whether every worker ended by itself; one that did not was killed.
        """
        refuse_memory(self._app.settings)
        with on_stop_signal(self.stop):
            if not await unless(self._stopping, self._app.wait_until_ready(start_timeout, connection=connection)):
                return True
            async with showing_health(self._health_file, lambda: self._supervisor.is_healthy):
                self._supervisor.start()
                await first_of(self._stopping.wait(), self._supervisor.all_ended(), self._time_is_up())
                self._stopping.set()
                return await self._supervisor.stop(self._grace)

    async def _time_is_up(self) -> None:
        await asyncio.sleep(self._max_time) if self._max_time is not None else await asyncio.Event().wait()
