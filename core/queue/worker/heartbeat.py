"""Keeps the leases of a worker's jobs from running out: one timer for all of them.

A beat moves the ends of leases and touches nothing else, so it can never bring back a finished job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from core.clock import jittered
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.state import Lease
from core.queue.worker.until_reached import until_answered

BEATS_PER_LEASE = 3
"""So that a beat may fail twice before a lease runs out."""


class Heartbeat:
    """Renews the leases that are held; tells `on_lost` of one that is another's by now."""

    def __init__(self, driver: Driver, seconds: float, events: Events, *, on_lost: Callable[[Lease], None]) -> None:
        self._driver = driver
        self._seconds = seconds
        self._events = events
        self._on_lost = on_lost
        self._held: dict[str, Lease] = {}
        self.last_success = time.monotonic()
        """When the store answered last. A beat goes out while nothing is held, too."""

    def hold(self, lease: Lease) -> None:
        before = self._held.get(lease.job_id)
        self._held[lease.job_id] = lease
        if before is not None:  # this very worker fetched the job again, after its lease had run out
            self._on_lost(before)

    def drop(self, lease: Lease) -> None:
        if self._held.get(lease.job_id) == lease:
            del self._held[lease.job_id]

    async def run(self) -> None:
        while True:
            await asyncio.sleep(jittered(self._seconds / BEATS_PER_LEASE, 0.1))
            await self._beat()

    async def _beat(self) -> None:
        asked: dict[str, Lease] = {}

        async def renew() -> AbstractSet[str]:
            asked.clear()
            asked.update(self._held)
            if asked:
                return await self._driver.renew(list(asked.values()), self._seconds)
            await self._driver.ping()
            return frozenset()

        lost = await until_answered(renew, self._events)
        self.last_success = time.monotonic()
        for job_id in lost:
            if self._held.get(job_id) == asked[job_id]:
                self._on_lost(self._held.pop(job_id))
