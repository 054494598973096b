"""The router as a process: `python main.py`, and each of its shared-subscription processes."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from core.application import Application
from core.errors import UnavailableError
from core.observability.health import showing_health
from core.roles.garbage import search_rarely
from core.roles.signals import on_stop_signal, stop_with_parent
from core.roles.stores import refuse_memory
from core.roles.supervisor import Supervisor
from core.tasks import first_of, unless

_log = logging.getLogger("routemq.router")

LAST_WORDS = 5.0
"""Seconds, beyond the grace, that a shared process gets to end before it is killed."""


class RouterRole:
    """One process of the router: the main one, or (with `number`) one for the shared routes."""

    def __init__(self, app: Application, number: int | None = None, start_timeout: float | None = None) -> None:
        """`start_timeout` is in seconds, by default APP_START_TIMEOUT; that of the shared processes as well."""
        self._app = app
        self._number = number
        self._start_timeout = app.settings.app.start_timeout if start_timeout is None else start_timeout
        self._health_file = app.settings.app.health_file
        self._grace = app.settings.app.grace
        self._client = app.mqtt_client(number)
        self._processes = Supervisor(
            "shared process",
            app.routes.shared_process_count if number is None else 0,
            app.events,
            command=self._command,
            health_file=self._health_file,
        )
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()

    def stop(self) -> None:
        """Stop taking messages, let running controllers end within the grace; called again, stop at once."""
        _log.info("stopping at once" if self._stopping.is_set() else "stopping…")
        if self._stopping.is_set():
            self._at_once.set()
            self._processes.signal_stop()
        self._stopping.set()
        self._client.quiet()

    async def run(self) -> None:
        """Wait for stores and broker, then route messages until stopped.

        Raises what keeps it from starting: UnavailableError, BrokerRefusedError, SchemaOutdatedError,
        SettingError, for a job class that no worker could run as well: what is dispatched would only fail there.
        """
        refuse_memory(self._app.settings)
        if self._number is None:
            self._app.jobs.require_runnable()
        with on_stop_signal(self.stop), stop_with_parent(self.stop, is_child=self._number is not None):
            if not await unless(self._stopping, self._app.wait_until_ready(self._start_timeout)):
                return
            self._tell_start()
            search_rarely()
            async with showing_health(self._health_file, self._is_healthy):
                await self._serve()
        _log.info("stopped")

    def _command(self, number: int) -> Sequence[str]:
        """What runs a shared process."""
        return sys.executable, sys.argv[0], "shared-process", f"--start-timeout={self._start_timeout}", str(number)

    def _is_healthy(self) -> bool:
        return self._client.is_connected and self._processes.is_healthy

    def _tell_start(self) -> None:
        if self._number is None:
            mqtt, routes = self._app.settings.mqtt, len(self._app.routes.routes)
            store = self._app.store_name()
            _log.info("router: %d routes, MQTT broker %s:%d, jobs go to %s", routes, mqtt.broker, mqtt.port, store)

    async def _serve(self) -> None:
        receiving = asyncio.create_task(self._client.run(), name="mqtt")
        try:
            await self._client.connected(self._start_timeout)
            self._processes.start()
            await first_of(self._stopping.wait(), asyncio.wait({receiving}))
        except UnavailableError:
            if not self._stopping.is_set():
                raise
        finally:
            await self._shut_down(receiving)
        receiving.result()

    async def _shut_down(self, receiving: asyncio.Task[None]) -> None:
        ending = asyncio.gather(self._client.stop(self._grace), self._processes.stop(self._grace + LAST_WORDS))
        await first_of(asyncio.shield(ending), self._at_once.wait())
        if not ending.done():
            await self._client.stop(0)
        await ending
        await asyncio.gather(receiving, return_exceptions=True)
