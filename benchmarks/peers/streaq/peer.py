"""streaq: Redis streams, acknowledged after the job."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streaq import Worker
from tally import ran

worker = Worker(redis_url=os.environ["BENCH_URL"], concurrency=100, anyio_kwargs={"use_uvloop": True})


@worker.task(expire=0)
async def noop(number: int) -> None:
    ran(number)


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    async with worker:
        yield


async def dispatch(number: int) -> None:
    await noop.enqueue(number)


async def bulk(numbers: list[int]) -> None:
    await worker.enqueue_many([noop.enqueue(number) for number in numbers])


async def left() -> int:
    return await worker.queue_size()


def work() -> None:
    os.execv(sys.executable, [sys.executable, "-m", "streaq", "run", "peer:worker"])
