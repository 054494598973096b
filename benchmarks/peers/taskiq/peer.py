"""taskiq on a Redis stream: acknowledged after the job (its default), pending entries claimed by others."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from tally import ran
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ["BENCH_URL"])


@broker.task
async def noop(number: int) -> None:
    ran(number)


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


async def dispatch(number: int) -> None:
    await noop.kiq(number)


async def left() -> int:
    """Delivered and not yet acknowledged, and not yet delivered: the stream itself keeps what was done."""
    async with Redis.from_url(os.environ["BENCH_URL"]) as redis:
        (group,) = await redis.xinfo_groups("taskiq")
        return group["pending"] + (group["lag"] or 0)


def work() -> None:
    options = ["--workers", "1", "--max-async-tasks", "100", "--log-level", "WARNING"]
    os.execv(sys.executable, [sys.executable, "-m", "taskiq", "worker", *options, "peer:broker"])
