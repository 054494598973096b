from __future__ import annotations

import asyncio
import os
import signal
import time

from core.job import Job
from tests.acceptance.sample_app import journal


class Record(Job):
    n: int

    async def handle(self) -> None:
        journal.write("recorded", n=self.n)


class Prompt(Job):
    """Notes how long it was on the way."""

    dispatched_at: float  # on the monotonic clock

    async def handle(self) -> None:
        journal.write("started", after=time.monotonic() - self.dispatched_at)


class Large(Job):
    blob: str

    async def handle(self) -> None:
        journal.write("large", size=len(self.blob), is_whole=self.blob == "x" * len(self.blob))


class KillsItsWorker(Job):
    max_tries = 2

    async def handle(self) -> None:
        journal.write("killing", attempts=self.attempts)
        os.kill(os.getpid(), signal.SIGKILL)

    async def failed(self, exception: Exception) -> None:
        journal.write("failed hook", error=str(exception))


class Gated(Job):
    """Waits until the test opens the gate."""

    timeout = 0

    async def handle(self) -> None:
        journal.write("waiting", attempts=self.attempts)
        while not journal.is_gate_open():  # noqa: ASYNC110, the gate is a file
            await asyncio.sleep(0.02)
        journal.write("let through", attempts=self.attempts)


class Fails(Job):
    max_tries = 3
    retry_after = 1

    async def handle(self) -> None:
        journal.write("trying", attempts=self.attempts)
        raise ValueError("fails on purpose")


class GatedThread(Job):
    timeout = 0

    def handle(self) -> None:
        journal.write("waiting")
        signal.sigwait([signal.SIGUSR1])  # which nobody sends


class BlocksLoop(Job):
    """Keeps the worker's event loop busy for three leases."""

    timeout = 0
    seconds: float

    async def handle(self) -> None:
        journal.write("blocking", attempts=self.attempts)
        time.sleep(self.seconds)  # noqa: ASYNC251, that is the point
        journal.write("blocked", attempts=self.attempts)
