"""How long a user waits for a program to begin."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from statistics import median

from benchmarks.contenders import OURS
from benchmarks.row import Entry, Figures, Row
from benchmarks.stage import Stage


def help_(stage: Stage) -> Figures:
    times = stage.size(5, 3)
    with stage.performance(OURS, "sqlite", 1) as place:
        command, environment = [str(place.python), "main.py", "--help"], place.environment()
        taken = []
        for _ in range(times):
            begun = time.monotonic()
            subprocess.run(command, env=environment, cwd=place.project, check=True, stdout=subprocess.DEVNULL)
            taken.append(time.monotonic() - begun)
    return {"s": median(taken)}


def first_job(store: str, stage: Stage) -> Figures:
    """From the start of `python main.py --queue-work` to that of the job which waits for it."""
    taken, times = [], stage.size(5, 2)
    with stage.performance(OURS, store, times) as place:
        place.verb("prepare")
        for number in range(times):
            place.verb("load", number, number, number + 1)
            begun = time.monotonic()
            with place.running(str(place.python), "main.py", "--queue-work") as worker:
                place.wait_for(number, number + 1, worker)
            taken.append(place.tally.started[number] - begun)
    return {"s": median(taken)}


ROWS = [
    Row("startup-help", "`python main.py --help`", (Entry("RouteMQ", OURS, help_),)),
    Row(
        "startup-worker",
        "`python main.py --queue-work` to its first job",
        tuple(
            Entry(store, OURS, partial(first_job, store), quick=store == "redis")
            for store in ("redis", "sqlite", "postgresql")
        ),
    ),
]
