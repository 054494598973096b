"""oban for Python: rows updated after the job, orphans rescued."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import psycopg
from oban import Oban, worker
from psycopg_pool import AsyncConnectionPool
from tally import ran

URL = os.environ["BENCH_URL"]
CHUNK = 1000
opened = SimpleNamespace()
BIN = str(Path(sys.executable).parent / "oban")


@worker(queue="default")
class Noop:
    async def process(self, job):
        ran(job.args["number"])


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    async with AsyncConnectionPool(URL, min_size=1, max_size=10) as pool, Oban(pool=pool, name="Oban") as opened.oban:
        yield


async def dispatch(number: int) -> None:
    await Noop.enqueue({"number": number})


async def bulk(numbers: list[int]) -> None:
    for start in range(0, len(numbers), CHUNK):
        await opened.oban.enqueue_many([Noop.new({"number": number}) for number in numbers[start : start + CHUNK]])


def left() -> int:
    with psycopg.connect(URL) as connection:
        row = connection.execute("SELECT count(*) FROM oban_jobs WHERE state <> 'completed'").fetchone()
        return row[0] if row else 0


def prepare() -> None:
    subprocess.run([BIN, "install", "--dsn", URL], check=True)


def work() -> None:
    options = ["--queues", "default:200", "--log-level", "WARNING", "--cron-modules", "peer"]
    os.execv(BIN, [BIN, "start", "--dsn", URL, *options])
