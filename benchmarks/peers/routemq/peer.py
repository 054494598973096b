"""RouteMQ-PyPI, the package of that name, with its Redis queue and its router."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

URL = urlsplit(os.environ["BENCH_URL"])

# Its settings are read when its modules are imported; its log of every job would cost it a third of its speed.
os.environ.update(
    LOG_LEVEL="WARNING",
    LOG_LIFECYCLE_EVENTS="false",
    ROUTEMQ_JOB_DIRECTORY="bench_app.jobs",
    QUEUE_CONNECTION="redis",
    ENABLE_REDIS="true" if URL.scheme == "redis" else "false",
    REDIS_HOST=str(URL.hostname),
    REDIS_PORT=str(URL.port),
    REDIS_MAX_CONNECTIONS="200",  # at its default of 10, a hundred tasks at a time fail
    MQTT_BROKER=str(URL.hostname),
    MQTT_PORT=str(URL.port),
)


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    from routemq.redis_manager import redis_manager

    await redis_manager.initialize()
    yield
    await redis_manager.disconnect()


async def dispatch(number: int) -> None:
    from bench_app.jobs.noop import Noop
    from routemq import dispatch

    job = Noop()
    job.number = number
    await dispatch(job)


async def bulk(numbers: list[int]) -> None:
    """One by one inside; its ids are microseconds, so that a hundred tasks at a time would double some."""
    for number in numbers:
        await dispatch(number)


async def left() -> int:
    """Those to be run. Done ones may stay in its list of reserved jobs, where its heartbeat puts them back."""
    from routemq.queue import queue

    return await queue.size()


def work() -> None:
    os.chdir(tempfile.mkdtemp(prefix="routemq-bench-"))  # it writes a .env and logs where it stands
    from bootstrap.app import Application
    from routemq.cli import queue_work

    if URL.scheme == "redis":
        queue_work()
    else:
        app = Application(router_directory="bench_app.routers", show_banner=False)
        app.connect()
        app.run()
