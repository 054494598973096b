"""The worker as a process: `python main.py --queue-work`, and each process of `--processes`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from core.application import Application
from core.observability.health import showing_health
from core.queue.worker.options import WorkerOptions
from core.roles.garbage import search_rarely
from core.roles.signals import on_stop_signal, stop_with_parent
from core.roles.stores import refuse_memory

_log = logging.getLogger("routemq.worker")


async def run_worker(
    app: Application,
    options: WorkerOptions,
    *,
    connection: str | None = None,
    max_tries: int | None = None,
    timeout: float | None = None,
    start_timeout: float | None = None,
    is_child: bool = False,
) -> bool:
    """Wait for the stores, then work until a signal, an option or (of a child) the end of its parent ends it.

    Returns whether it is used up: another is to go on in its place.
    """
    refuse_memory(app.settings)
    worker = app.worker(options, connection=connection, max_tries=max_tries, timeout=timeout)
    starting = asyncio.ensure_future(app.wait_until_ready(start_timeout, connection=connection))

    def stop() -> None:
        _log.info("stopping…")
        starting.cancel()
        worker.stop()

    with on_stop_signal(stop), stop_with_parent(stop, is_child=is_child), suppress(asyncio.CancelledError):
        await starting
        served = ", ".join(options.queues.names)
        _log.info(
            "worker: queue %s of %s, %d jobs side by side", served, app.store_name(connection), options.concurrency
        )
        search_rarely()
        async with showing_health(app.settings.app.health_file, lambda: worker.is_healthy):
            await worker.run()
    _log.info("stopped")
    return worker.is_used_up
