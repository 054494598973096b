"""dramatiq on Redis: acknowledged after the job; what a dead worker held is requeued by the others."""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from tally import ran

broker = RedisBroker(url=os.environ["BENCH_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int) -> None:
    ran(number)


def dispatch(number: int) -> None:
    noop.send(number)


def left() -> int:
    return broker.client.hlen("dramatiq:default.msgs")


def work() -> None:
    os.execv(sys.executable, [sys.executable, "-m", "dramatiq", "peer", "--processes", "1", "--threads", "8"])
