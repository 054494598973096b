"""pgqueuer on asyncpg: heartbeats, completions joined; what a dead worker held is picked up again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.adapters.cli import supervisor
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from tally import ran

URL = os.environ["BENCH_URL"]
CHUNK = 1000
opened = SimpleNamespace()


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(URL)))

    @pgq.entrypoint("noop")
    async def noop(job: Job) -> None:
        ran(int(job.payload or b""))

    yield pgq


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    async with asyncpg.create_pool(URL, min_size=1, max_size=10) as pool:
        opened.queries = Queries(AsyncpgPoolDriver(pool))
        yield


async def dispatch(number: int) -> None:
    await opened.queries.enqueue("noop", b"%d" % number)


async def bulk(numbers: list[int]) -> None:
    for start in range(0, len(numbers), CHUNK):
        payloads: list[bytes | None] = [b"%d" % number for number in numbers[start : start + CHUNK]]
        await opened.queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))


async def left() -> int:
    return sum(each.count for each in await opened.queries.queue_size())


def prepare() -> None:
    subprocess.run([sys.executable, "-m", "pgqueuer", "install"], check=True, env={**os.environ, "PGDSN": URL})


def work() -> None:
    # What `pgq run --batch-size 200` calls; the options of that command do not work with the typer of today.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(supervisor.run(main, batch_size=200))
