"""celery on Redis, prefork with two processes: acknowledged late, as its guide says for at least once."""

from __future__ import annotations

import os
import sys

from celery import Celery
from redis import Redis
from tally import ran

app = Celery("peer", broker=os.environ["BENCH_URL"])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=True)


@app.task(name="noop")
def noop(number: int) -> None:
    ran(number)


def dispatch(number: int) -> None:
    noop.delay(number)


def left() -> int:
    redis = Redis.from_url(os.environ["BENCH_URL"])
    return redis.llen("celery") + redis.hlen("unacked")


def work() -> None:
    options = ["--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING"]
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", "peer", "worker", *options])
