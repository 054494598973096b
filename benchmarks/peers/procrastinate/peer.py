"""procrastinate on psycopg: jobs of a dead worker stay `doing` until the user's own periodic task retries them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from procrastinate import App, PsycopgConnector
from tally import ran

URL = os.environ["BENCH_URL"]
CHUNK = 1000
app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(name="noop")
async def noop(number: int) -> None:
    ran(number)


@asynccontextmanager
async def session() -> AsyncIterator[None]:
    async with app.open_async():
        yield


async def dispatch(number: int) -> None:
    await noop.defer_async(number=number)


async def bulk(numbers: list[int]) -> None:
    for start in range(0, len(numbers), CHUNK):
        await noop.batch_defer_async(*({"number": number} for number in numbers[start : start + CHUNK]))


def left() -> int:
    with psycopg.connect(URL) as connection:
        states = "('todo', 'doing')"
        row = connection.execute(f"SELECT count(*) FROM procrastinate_jobs WHERE status IN {states}").fetchone()
        return row[0] if row else 0


def prepare() -> None:
    subprocess.run([sys.executable, "-m", "procrastinate", "--app", "peer.app", "schema", "--apply"], check=True)


def work() -> None:
    options = ["--app", "peer.app", "worker", "--concurrency", "100"]
    os.execv(sys.executable, [sys.executable, "-m", "procrastinate", *options])
