"""Makes the jobs of lost workers available again. Any number of workers may do so at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.clock import jittered
from core.observability.events import Events, JobsRescued
from core.queue.driver import Driver
from core.queue.worker.until_reached import until_answered


class Rescuer:
    """Looks at `queues` twice per lease: what is lost right after a look still runs again within two leases."""

    def __init__(self, driver: Driver, queues: Sequence[str], lease: float, events: Events) -> None:
        self._driver = driver
        self._queues = queues
        self._lease = lease
        self._events = events

    async def run(self) -> None:
        while True:
            count = await until_answered(lambda: self._driver.rescue(self._queues), self._events)
            if count:
                self._events.emit(JobsRescued(count))
            await asyncio.sleep(jittered(self._lease / 2))
