"""The jobs of a chaos run, one class for each kind of order."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from core.job import Job
from tests.chaos.app import record
from tests.chaos.app.orders import Kind, Order

ENOUGH_TRIES = 1000
"""Of a job that is not meant to fail: killing its workers must not use them up."""


class OnPurposeError(Exception):
    """What a try raises that is to fail."""


class Work(Job):
    """Takes its time, and fails as often as it is told to."""

    queue = "chaos"
    max_tries = ENOUGH_TRIES
    retry_after = 0.2
    timeout = 0
    order: str
    seconds: float = 0.0
    failures: int = 0

    async def handle(self) -> None:
        with record.one_try(self, self.order):
            await asyncio.sleep(self.seconds)
            self.fail_on_purpose()

    def fail_on_purpose(self) -> None:
        if self.attempts <= self.failures:
            raise OnPurposeError(f"try {self.attempts} of {self.order}")


class ThreadWork(Work):
    def handle(self) -> None:  # type: ignore[override]
        with record.one_try(self, self.order, "thread"):
            time.sleep(self.seconds)
            self.fail_on_purpose()


class ProcessWork(Work):
    queue = "processes"
    execution = "process"

    def handle(self) -> None:  # type: ignore[override]
        with record.one_try(self, self.order, "child"):
            time.sleep(self.seconds)
            self.fail_on_purpose()


class DoomedWork(Work):
    max_tries = 3

    def fail_on_purpose(self) -> None:
        raise OnPurposeError(f"{self.order} is to be given up")

    async def failed(self, exception: Exception) -> None:
        record.ledger().write("failed", self.order, job=self.job_id)


class KeyedWork(Work):
    ordering_key = "key"
    key: str = ""


class HeldWork(Work):
    async def handle(self) -> None:
        with record.one_try(self, self.order):
            while Path(os.environ["HOLD"]).exists():  # noqa: ASYNC110, a file
                await asyncio.sleep(0.05)


class OnceWork(Work):
    max_tries = 1

    def fail_on_purpose(self) -> None:
        """It would not be tried again."""


_CLASSES: dict[Kind, type[Work]] = {
    "plain": Work,
    "thread": ThreadWork,
    "process": ProcessWork,
    "doomed": DoomedWork,
    "keyed": KeyedWork,
    "once": OnceWork,
    "held": HeldWork,
}


def job_of(order: Order) -> Work:
    job = _CLASSES[order.kind](order=order.id, seconds=order.seconds, failures=order.failures)
    if isinstance(job, KeyedWork):
        job.key = order.key
    return job
