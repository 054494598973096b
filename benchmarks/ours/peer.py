"""RouteMQ. Its settings come in the environment, as a user sets them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench_app.jobs.compute import Compute
from bench_app.jobs.noop import Noop

from core.application import Application
from core.queue import queue_manager

JOB = Compute if os.environ.get("BENCH_JOB") == "compute" else Noop


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    async with Application():
        yield


async def dispatch(number: int) -> None:
    await queue_manager.dispatch(JOB(number=number))


async def bulk(numbers: list[int]) -> None:
    await queue_manager.queue.bulk([JOB(number=number) for number in numbers])


async def left() -> int:
    return await queue_manager.queue.size()


def prepare() -> None:
    import subprocess

    subprocess.run([sys.executable, "main.py", "--migrate"], check=True)


def work() -> None:
    options = ["--concurrency", os.environ.get("BENCH_CONCURRENCY", "200")]
    os.execv(sys.executable, [sys.executable, "main.py", "--queue-work", *options])
