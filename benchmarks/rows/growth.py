"""What stays the same as the queue grows: throughput, and the worker's memory."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.contenders import OURS
from benchmarks.row import Entry, Figures, Row
from benchmarks.rows.workers import STORES, throughput
from benchmarks.stage import PATIENCE, Stage, resident

IDLE = 2.0  # seconds after its first job
IDLE_MB, GROWTH = "idle MB", "growth %"


def backlog(store: str, jobs: int, stage: Stage) -> Figures:
    jobs = stage.size(jobs, jobs // 10)
    with stage.performance(OURS, store, jobs) as place:
        place.verb("prepare")
        place.verb("load", 0, 0, jobs)
        return throughput(place, jobs)


def worker_memory(stage: Stage) -> Figures:
    """Resident: idle after one job; and the growth from the first tenth of many jobs to their end."""
    jobs = stage.size(1_000_000, 20_000)
    with stage.performance(OURS, "redis", jobs) as place:
        place.verb("prepare")
        place.verb("load", 0, 0, 1)
        with place.running() as worker:
            place.wait_for(0, 1, worker)
            time.sleep(IDLE)
            idle = resident(worker.pid)
            place.tally.counts[0] = 0
            place.verb("load", 0, 0, jobs // 10)
            place.wait_for(0, jobs // 10, worker)
            early = resident(worker.pid)
            place.verb("load", jobs // 10, jobs // 10, jobs)
            place.wait_for(0, jobs, worker, max(PATIENCE, jobs / 1000))
            late = resident(worker.pid)
            place.check(0, jobs)
    return {IDLE_MB: idle, GROWTH: (late / early - 1) * 100}


ROWS = [
    *(
        Row(
            f"backlog-{store}",
            f"Throughput and backlog: {title}",
            tuple(
                Entry(
                    f"{jobs:,} jobs",
                    OURS,
                    partial(backlog, store, jobs),
                    rounds=None if jobs == 10_000 else 1,
                    quick=jobs < 1_000_000 and store == "redis",
                )
                for jobs in (10_000, 100_000, 1_000_000)
            ),
            note="(`--quick`: a tenth of the jobs.)",
        )
        for store, title in STORES.items()
    ),
    Row(
        "memory-worker",
        "Worker: resident memory, idle and over 1,000,000 jobs",
        (Entry("RouteMQ", OURS, worker_memory, rounds=1),),
    ),
]
