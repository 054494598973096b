"""Makes the jobs of lost workers available again. Any number of workers may do so at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from core.clock import jittered
from core.observability.events import Events, JobsRescued
from core.queue.driver import Driver
from core.queue.worker.outage import Outage
from core.queue.worker.until_reached import until_answered

LOOK_EVERY = 0.35
"""Of a lease: what is lost right after it was renewed is rescued by the second look after the end of its lease, and
runs again within two leases."""


class Rescuer:
    """Looks at `queues`, and rescues what had lost its owner at the look before, too: see Driver.rescue."""

    def __init__(self, driver: Driver, queues: Sequence[str], lease: float, events: Events, outage: Outage) -> None:
        self._driver = driver
        self._queues = queues
        self._lease = lease
        self._events = events
        self._outage = outage

    async def run(self) -> None:
        while True:
            count = await until_answered(partial(self._driver.rescue, self._queues, patiently=True), self._outage)
            if count:
                self._events.emit(JobsRescued(count))
            await asyncio.sleep(jittered(self._lease * LOOK_EVERY, 0.1))
