"""Keeps the leases of a worker's jobs from running out: one timer for all of them.

A beat moves the ends of leases and touches nothing else, so it can never bring back a finished job. It goes out
from a thread of its own, through a connection of its own: a job that blocks the worker's event loop must not lose
its lease, or another worker would start it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from core.clock import jittered
from core.queue.driver import Driver
from core.queue.state import Lease
from core.queue.worker.outage import Outage, OutageElsewhere
from core.queue.worker.service_thread import run_on_own_loop
from core.queue.worker.until_reached import LONGEST, until_answered

BEATS_PER_LEASE = 3
"""So that a beat may fail twice before a lease runs out."""
RENEW_WITHIN = 1 / 6
"""Of a lease, once the store is back after it was away for longer: before the rescuers look for the second time."""

Lost = Callable[[Sequence[Lease]], object]


class Heartbeat:
    """Renews the leases that are held; tells `on_lost` of one that is another's by now."""

    def __init__(
        self,
        driver: Driver,
        seconds: float,
        outage: Outage,
        *,
        on_lost: Callable[[Lease], None],
        open_driver: Callable[[], Driver] | None = None,
    ) -> None:
        """`open_driver` makes the driver for the thread. Without, as a store in memory cannot have one, beats go
        out from the worker's own loop."""
        self._driver = driver
        self._open_driver = open_driver
        self._seconds = seconds
        self._outage = outage
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
        if self._open_driver is None:
            await self._beat_for_ever(self._driver, self._outage, self._lose)
            return
        home, open_driver = asyncio.get_running_loop(), self._open_driver
        await run_on_own_loop(lambda: self._beat_apart(open_driver, home), "heartbeat")

    async def _beat_apart(self, open_driver: Callable[[], Driver], home: asyncio.AbstractEventLoop) -> None:
        """In the thread. What it finds out is told on the worker's loop."""
        driver = open_driver()
        try:
            outage = OutageElsewhere(self._outage, home)
            await self._beat_for_ever(driver, outage, lambda lost: home.call_soon_threadsafe(self._lose, lost))
        finally:
            await driver.close()

    async def _beat_for_ever(self, driver: Driver, outage: Outage, tell: Lost) -> None:
        while True:
            await asyncio.sleep(jittered(self._seconds / BEATS_PER_LEASE, 0.1))
            tell(await self._beat(driver, outage))

    async def _beat(self, driver: Driver, outage: Outage) -> list[Lease]:
        """Renew what is held; returns the leases that are lost."""
        asked: dict[str, Lease] = {}

        async def renew() -> AbstractSet[str]:
            nonlocal asked
            asked = self._held.copy()  # one step to the interpreter: the worker's thread goes on changing it
            if asked:
                return await driver.renew(list(asked.values()), self._seconds)
            await driver.ping()
            return frozenset()

        lost = await until_answered(renew, outage, min(LONGEST, self._seconds * RENEW_WITHIN))
        self.last_success = time.monotonic()
        return [asked[job_id] for job_id in lost]

    def _lose(self, lost: Sequence[Lease]) -> None:
        for lease in lost:
            if self._held.get(lease.job_id) == lease:
                del self._held[lease.job_id]
                self._on_lost(lease)
