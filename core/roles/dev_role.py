"""Everything in one process, but for the broker's: `python main.py --dev`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress

from core.application import Application
from core.dev.activity import Activity
from core.dev.embedded import embedded_settings
from core.dev.fleet import Fleet, find_simulation, run_fleet
from core.dev.log_file import log_to_file
from core.dev.plain_view import PlainView
from core.dev.surroundings import Surroundings
from core.mqtt.client import MqttClient
from core.mqtt.embedded_broker import EmbeddedBroker
from core.observability.logging import configure_logging, log_events
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder
from core.queue.worker.worker import Worker
from core.roles.signals import on_stop_signal
from core.roles.unknown_settings import unknown_settings
from core.settings import Settings, beside_main
from core.tasks import end_tasks, first_of, unless

_log = logging.getLogger("routemq.dev")

LOG_FILE = "storage/dev.log"
GRACE = 3.0
"""Seconds that running jobs and controllers get at the end: whoever stops this sits before it."""

_PREFERRED_PORT = 1883
_BROKER_WATCH = 0.5
"""Seconds between looks at the broker's process."""
_LAST_WORDS = 2.0
"""Seconds that the app's simulation gets to end once it is cancelled."""


class DevRole:
    def __init__(self, seconds: float | None = None, *, configured_stores: bool = False) -> None:
        """`seconds` after which to stop by itself; `configured_stores` instead of a store of our own."""
        self._seconds = seconds
        self._configured_stores = configured_stores
        self._ignored: tuple[str, ...] = ()
        self._stopping = asyncio.Event()
        self._broker = EmbeddedBroker(_PREFERRED_PORT)

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped."""
        with on_stop_signal(self.stop):
            try:
                await asyncio.to_thread(self._broker.start)
                async with Application(self._settings()) as app:
                    await self._serve(app)
            finally:
                self._broker.stop()  # not in a thread: controllers may hold them all, and never give one back

    def _settings(self) -> Settings:
        found = embedded_settings(self._broker.host, self._broker.port, configured_stores=self._configured_stores)
        self._ignored = found.ignored
        configure_logging(found.settings.logging.level, found.settings.logging.format)
        for line in unknown_settings():
            _log.warning("%s", line)
        return found.settings

    async def _serve(self, app: Application) -> None:
        log_events(app.events)
        client, worker = app.mqtt_client_of_all_routes(), app.worker(all_queues_options(app))
        if await unless(self._stopping, _bring_up_to_date(app)):
            await self._work(app, client, worker)

    async def _work(self, app: Application, client: MqttClient, worker: Worker) -> None:
        activity = Activity(app.events)
        services = {
            "mqtt": client.run(),
            "worker": worker.run(),
            "fleet": self._simulate(app, client),
            "view": self._view(app, activity),
            "broker": self._keep_broker(),
        }
        tasks = {name: asyncio.create_task(service, name=name) for name, service in services.items()}
        one_ended = asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        try:
            await first_of(self._stopping.wait(), self._time_is_up(), one_ended)
        finally:
            await _shut_down(client, worker, tasks)
        _write(_summary(activity))

    async def _simulate(self, app: Application, client: MqttClient) -> None:
        simulate = find_simulation(app.settings.app.package)
        await client.connected(app.settings.app.start_timeout)
        if simulate is None:
            await asyncio.Event().wait()  # the devices are somebody else's
        else:
            await run_fleet(simulate, Fleet(app.settings.mqtt.options()))

    async def _keep_broker(self) -> None:
        """Start the broker anew, on its port, should it die."""
        while True:
            await asyncio.sleep(_BROKER_WATCH)
            if not self._broker.is_running:
                _log.error("the embedded MQTT broker has died; starting it anew")
                await asyncio.to_thread(self._broker.start)

    async def _view(self, app: Application, activity: Activity) -> None:
        log_file = beside_main(LOG_FILE)
        log_to_file(log_file)
        there = Surroundings(
            self._broker.host,
            self._broker.port,
            app.database.address,
            app.settings.queue.connection,
            log_file,
            self._ignored,
        )
        if sys.stdout.isatty():
            from rich.console import Console

            from core.dev.live_view import LiveView

            await LiveView(activity, there, Console()).run()
        else:
            await PlainView(activity, app.events, there, _write).run()

    async def _time_is_up(self) -> None:
        await asyncio.Event().wait() if self._seconds is None else await asyncio.sleep(self._seconds)


def all_queues_options(app: Application) -> WorkerOptions:
    """All queues that the job classes name, and the default one; none before the others, so that none starves."""
    queue = app.settings.queue
    names = sorted({queue.default, *(getattr(job, "queue", queue.default) for job in app.jobs)})
    order = QueueOrder(tuple(names), tuple(1.0 for _ in names))
    return WorkerOptions(order, queue.concurrency, queue.lease, queue.sleep, GRACE, queue.blocked_loop_warning)


async def _shut_down(client: MqttClient, worker: Worker, tasks: Mapping[str, asyncio.Task[None]]) -> None:
    """End all of it, and raise what one of the tasks ended with."""
    worker.stop()
    # The client before the fleet: what the devices' last wills say now is of no interest any more.
    await asyncio.gather(client.stop(GRACE), asyncio.wait({tasks["worker"]}))
    await asyncio.wait({tasks["mqtt"]})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            await end_tasks(*tasks.values())
    for task in tasks.values():
        if task.done() and not task.cancelled():
            task.result()


async def _bring_up_to_date(app: Application) -> None:
    from core.database.migrations import upgrade

    await app.wait_for_database()
    await upgrade(app.database)
    await app.wait_until_ready()


def _summary(activity: Activity) -> str:
    return (
        f"Stopped. {activity.messages} messages came in; of the jobs, {activity.completed} completed, "
        f"{activity.retried} were tried again and {activity.failed} failed."
    )


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
