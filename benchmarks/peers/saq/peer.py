"""saq on Redis: with two tries a job, so that what a dead worker held is run again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue
from tally import ran

queue = Queue.from_url(os.environ["BENCH_URL"])


async def noop(_: dict[str, Any], *, number: int) -> None:
    ran(number)


settings = {"queue": queue, "functions": [noop], "concurrency": 100}


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    await queue.connect()
    yield
    await queue.disconnect()


async def dispatch(number: int) -> None:
    await queue.enqueue("noop", number=number, retries=2)


async def left() -> int:
    return await queue.count("incomplete")


def prepare() -> None:
    """In saq's favour: as if another worker had swept a moment ago, so that this one does not.

    A worker's sweep, of which the first comes with its start, takes what was dequeued and is not yet marked active
    for the job of a dead worker, and runs it twice.
    """

    async def sweep() -> None:
        async with session():
            await queue.sweep(lock=3600)

    asyncio.run(sweep())


def work() -> None:
    os.execv(sys.executable, [sys.executable, "-m", "saq", "peer.settings", "--quiet"])
