"""Jobs loaded beforehand, one worker: jobs a second from the first job's start to the last's."""

from __future__ import annotations

import re
from functools import partial

from benchmarks.contenders import OURS, PEERS, Contender
from benchmarks.row import Entry, Figures, Row
from benchmarks.stage import PATIENCE, Failed, Performance, Stage
from config.queue import QueueSettings

STORES = {"redis": "Redis", "postgresql": "PostgreSQL", "sqlite": "SQLite", "mysql": "MariaDB or MySQL"}
RATE = "jobs/s"


def throughput(place: Performance, jobs: int) -> Figures:
    """Of a worker over a store that is loaded with `jobs`."""
    with place.running() as worker:
        place.wait_for(0, jobs, worker, max(PATIENCE, jobs / 1000))
        place.check(0, jobs)
    return {RATE: jobs / place.tally.seconds(0, jobs)}


def no_op(contender: Contender, store: str, stage: Stage) -> Figures:
    jobs = stage.size(contender.jobs, contender.jobs // 10)
    with stage.performance(contender, store, jobs) as place:
        place.verb("prepare")
        place.verb("load", 0, 0, jobs)
        return throughput(place, jobs)


def compute(processes: int, stage: Stage) -> Figures:
    if "processes" not in QueueSettings.model_fields:
        raise Failed('not there yet: `execution = "process"` and QUEUE_PROCESSES')
    jobs = stage.size(5000, 1000)
    variables = {"BENCH_JOB": "compute", "QUEUE_PROCESSES": str(processes), "BENCH_CONCURRENCY": "20"}
    with stage.performance(OURS, "redis", jobs, **variables) as place:
        place.verb("prepare")
        place.verb("load", 0, 0, jobs)
        return throughput(place, jobs)


def takes_part(contender: Contender, row: str) -> bool:
    """In a quick run."""
    return bool(re.search(contender.quick, row)) and not row.endswith("mysql")


def _entries(store: str) -> tuple[Entry, ...]:
    return tuple(
        Entry(each.name, each, partial(no_op, each, store), each.worker_rounds, takes_part(each, f"worker-{store}"))
        for each in (OURS, *PEERS)
        if store in each.stores
    )


ROWS = [
    *(
        Row(f"worker-{store}", f"Worker, no-op jobs, one process: {title}", _entries(store))
        for store, title in STORES.items()
    ),
    Row(
        "processes",
        'CPU-bound jobs of 1 ms with `execution = "process"`, on Redis',
        tuple(Entry(f"QUEUE_PROCESSES={count}", OURS, partial(compute, count)) for count in (1, 2)),
    ),
]
