"""huey on SQLite: a job leaves the queue before it runs, so that a dead worker's jobs are lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from huey import SqliteHuey
from tally import ran

huey = SqliteHuey(filename=os.environ["BENCH_URL"], results=False)


@huey.task()
def noop(number: int) -> None:
    ran(number)


def dispatch(number: int) -> None:
    noop(number)


def left() -> int:
    return huey.pending_count()


def work() -> None:
    consumer = str(Path(sys.executable).parent / "huey_consumer")
    os.execv(consumer, [consumer, "peer.huey", "--workers", "8", "--quiet"])
