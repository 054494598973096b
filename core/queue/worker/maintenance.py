"""What any worker does for the queues it serves, beside its own jobs: stage what is due, rescue what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from core.clock import jittered
from core.observability.events import Events, JobsRescued
from core.queue.driver import Driver
from core.queue.worker.until_reached import until_reached

LONGEST_STAGE_INTERVAL = 1.0
"""Seconds; how late a job may be staged that another process scheduled unheard."""


class Maintenance:
    """Runs the stager and the rescuer. Any number of workers may do so at the same time."""

    def __init__(self, driver: Driver, queues: Sequence[str], lease: float, events: Events) -> None:
        self._driver = driver
        self._queues = queues
        self._lease = lease
        self._events = events
        self._look_again = asyncio.Event()

    def look_again(self) -> None:
        """Something was scheduled: it may be due before anything that the stager knows of."""
        self._look_again.set()

    async def run_stager(self) -> None:
        while True:
            self._look_again.clear()
            next_due = await until_reached(lambda: self._driver.stage(self._queues), self._events)
            longest = jittered(LONGEST_STAGE_INTERVAL)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_again.wait(), longest if next_due is None else min(next_due, longest))

    async def run_rescuer(self) -> None:
        while True:
            count = await until_reached(lambda: self._driver.rescue(self._queues), self._events)
            if count:
                self._events.emit(JobsRescued(count))
            # Half a lease: what dies right after a rescue still runs again within two leases.
            await asyncio.sleep(jittered(self._lease / 2))
