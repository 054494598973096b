"""taskito: its engine is Rust; SQLite, PostgreSQL or Redis."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tally import ran
from taskito import Queue

URL = os.environ["BENCH_URL"]
SCHEME = urlsplit(URL).scheme
STORE = {"redis": {"backend": "redis", "db_url": URL}, "postgresql": {"backend": "postgres", "db_url": URL}}
queue = Queue(**STORE.get(SCHEME, {"db_path": URL}), workers=8, scheduler_batch_size=100)
CHUNK = 1000


@queue.task()
def noop(number: int) -> None:
    ran(number)


def dispatch(number: int) -> None:
    noop.delay(number)


def bulk(numbers: list[int]) -> None:
    for start in range(0, len(numbers), CHUNK):
        noop.map([(number,) for number in numbers[start : start + CHUNK]])


def left() -> int:
    stats = queue.stats()
    return stats["pending"] + stats["running"]


def work() -> None:
    program = str(Path(sys.executable).parent / "taskito")
    os.execv(program, [program, "worker", "--app", "peer:queue"])
