"""awa: its engine is Rust, heartbeats and rescue in it; bulk is COPY."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

from awa import AsyncClient
from tally import ran

URL = os.environ["BENCH_URL"]
CHUNK = 1000
opened = SimpleNamespace()


@dataclass
class Noop:
    number: int


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    opened.client = AsyncClient(URL)
    yield


async def dispatch(number: int) -> None:
    await opened.client.insert(Noop(number))


async def bulk(numbers: list[int]) -> None:
    for start in range(0, len(numbers), CHUNK):
        await opened.client.enqueue_many_copy([Noop(number) for number in numbers[start : start + CHUNK]])


async def left() -> int:
    await opened.client.flush_admin_metadata()
    return sum(each.total_queued + each.running for each in await opened.client.queue_stats())


def prepare() -> None:
    asyncio.run(_install())


async def _install() -> None:
    installer = AsyncClient(URL)
    await installer.migrate()
    await installer.install_queue_storage()
    await installer.close()


def work() -> None:
    asyncio.run(_work())


async def _work() -> None:
    worker = AsyncClient(URL)

    @worker.task(Noop, queue="default")
    async def noop(job):
        ran(job.args.number)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await worker.start([("default", 200)])
    await stopped.wait()
    await worker.shutdown()
