"""rq with its SimpleWorker, which does not fork for each job."""

from __future__ import annotations

import os
import sys

from redis import Redis
from rq import Queue
from rq.registry import StartedJobRegistry
from tally import ran

queue = Queue(connection=Redis.from_url(os.environ["BENCH_URL"]))


def noop(number: int) -> None:
    ran(number)


def dispatch(number: int) -> None:
    queue.enqueue("peer.noop", number, result_ttl=0)


def bulk(numbers: list[int]) -> None:
    queue.enqueue_many([Queue.prepare_data("peer.noop", (number,), result_ttl=0) for number in numbers])


def left() -> int:
    return len(queue) + len(StartedJobRegistry(queue=queue))


def work() -> None:
    options = ["--url", os.environ["BENCH_URL"], "--worker-class", "rq.SimpleWorker", "--quiet"]
    os.execv(sys.executable, [sys.executable, "-m", "rq.cli", "worker", *options])
