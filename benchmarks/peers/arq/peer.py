"""arq: a job stays queued until it has ended; its lock in Redis expires with its worker."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import uvloop
from arq import create_pool, run_worker
from arq.connections import RedisSettings
from tally import ran

redis_settings = RedisSettings.from_dsn(os.environ["BENCH_URL"])
opened = SimpleNamespace()


async def noop(_: dict[Any, Any], number: int) -> None:
    ran(number)


class WorkerSettings:
    functions = (noop,)
    redis_settings = redis_settings
    max_jobs = 100
    keep_result = 0


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    opened.pool = await create_pool(redis_settings)
    yield
    await opened.pool.aclose()


async def dispatch(number: int) -> None:
    await opened.pool.enqueue_job("noop", number)


async def left() -> int:
    return await opened.pool.zcard("arq:queue")


def work() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.set_event_loop(uvloop.new_event_loop())
    run_worker(WorkerSettings)
