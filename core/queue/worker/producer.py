"""Fetches jobs into free slots, stages those that are due, and sleeps until a wake-up where there are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from core.clock import jittered, since_boot
from core.errors import QueueUnavailableError
from core.queue.driver import Driver, WakeUp
from core.queue.state import FetchedJob
from core.queue.worker.options import WorkerOptions
from core.queue.worker.outage import Outage
from core.queue.worker.until_reached import until_answered

FETCH_MOST = 1000
"""Jobs that are asked for at once: what a driver's verb takes in one go."""
START_WITHIN = 0.5
"""Of a lease, counted from when its job was asked for. The lease of one that begins later may run out before the next
heartbeat: this process, its machine or the store stood still, and others may have taken the job over."""
EMPTY_CHECK_INTERVAL = 0.2
"""Seconds between looks, with --stop-when-empty, at jobs that other workers still execute."""


class Producer:
    """Hands each fetched job to `start`, with the moment (`since_boot`) until which it may begin.

    `slot_freed` has to be called when its slot is free again, and `recorded` when its outcome is in the store.

    Of ended jobs that are still to be recorded there may be as many again as of running ones: so the next are
    fetched and run while the store writes.

    Stopped by cancelling `run`; a fetch under way is finished first, as its jobs may be leased already.
    """

    def __init__(
        self,
        driver: Driver,
        options: WorkerOptions,
        outage: Outage,
        *,
        start: Callable[[FetchedJob, float], None],
    ) -> None:
        self._driver = driver
        self._options = options
        self._outage = outage
        self._start = start
        self._running = 0
        self._unrecorded = 0
        self._started = 0
        self._freed = asyncio.Event()
        self._fetching: asyncio.Future[list[FetchedJob]] | None = None
        self._sleeping: asyncio.Future[bool] | None = None
        self._stage_at = 0.0  # on the monotonic clock; 0 for at once

    def slot_freed(self) -> None:
        self._running -= 1
        self._unrecorded += 1
        self._freed.set()

    def recorded(self) -> None:
        self._unrecorded -= 1
        self._freed.set()

    async def run(self) -> None:
        """Return once --max-jobs are started or, with --stop-when-empty, the queues are empty."""
        wake_up = self._driver.wake_up(self._options.queues.names)
        woken = False
        try:
            while wanted := await self._free_slots():
                await self._stage_if_due()
                if await self._fetch(wanted) == wanted:
                    continue
                if woken:  # by a job that may be scheduled: learn when it is due before going to sleep
                    self._stage_at, woken = 0.0, False
                    continue
                if await self._is_finished():
                    return
                woken = await self._sleep(wake_up)
        finally:
            await wake_up.close()

    def abandon(self) -> None:
        """The worker has no more time: give up a fetch under way. What it leased is rescued after the lease."""
        if self._fetching is not None:
            self._fetching.cancel()

    def due_in(self, seconds: float) -> None:
        """A job of these queues is due in so many seconds: look then, even where that means to wake up."""
        due = time.monotonic() + seconds
        if due < self._stage_at:
            self._stage_at = due
            if self._sleeping is not None:
                self._sleeping.cancel()

    async def _sleep(self, wake_up: WakeUp) -> bool:
        """Until a wake-up (then True) or the next staging."""
        self._sleeping = asyncio.ensure_future(wake_up.wait(self._pause()))
        try:
            await asyncio.wait({self._sleeping})
            return not self._sleeping.cancelled() and self._sleeping.result()
        finally:
            self._sleeping.cancel()
            self._sleeping = None

    async def _stage_if_due(self) -> None:
        if time.monotonic() < self._stage_at:
            return
        next_due = await until_answered(lambda: self._driver.stage(self._options.queues.names), self._outage)
        longest = jittered(self._options.sleep)  # so that a herd of workers does not poll in step
        self._stage_at = time.monotonic() + (longest if next_due is None else min(next_due, longest))

    async def _fetch(self, wanted: int) -> int:
        return await until_answered(lambda: self._fetch_once(wanted), self._outage)

    async def _free_slots(self) -> int:
        """How many jobs to fetch: waits for a free slot, and is 0 once --max-jobs are started."""
        while not (free := min(self._room(), FETCH_MOST)):
            self._freed.clear()
            await self._freed.wait()
        budget = self._options.max_jobs
        return free if budget is None else min(free, budget - self._started)

    def _room(self) -> int:
        concurrency = self._options.concurrency
        return min(concurrency - self._running, 2 * concurrency - self._running - self._unrecorded)

    async def _fetch_once(self, wanted: int) -> int:
        start_by = since_boot() + self._options.lease * START_WITHIN
        fetch = self._driver.fetch(self._options.queues.next(), wanted, self._options.lease)
        fetching = self._fetching = asyncio.ensure_future(fetch)
        was_cancelled = False
        while not fetching.done():
            try:
                await asyncio.wait({fetching})
            except asyncio.CancelledError:
                was_cancelled = True
        if was_cancelled:
            with suppress(QueueUnavailableError):
                self._take(fetching.result(), start_by)
            raise asyncio.CancelledError
        return self._take(fetching.result(), start_by)

    def _take(self, jobs: list[FetchedJob], start_by: float) -> int:
        self._running += len(jobs)
        self._started += len(jobs)
        for fetched in jobs:
            self._start(fetched, start_by)
        return len(jobs)

    async def _is_finished(self) -> bool:
        """With --stop-when-empty: whether no job of the queues is available or executing."""
        if not self._options.stop_when_empty or self._running or self._unrecorded:
            return False
        return await until_answered(self._are_queues_empty, self._outage)

    async def _are_queues_empty(self) -> bool:
        names = self._options.queues.names
        await self._driver.stage(names)
        return await self._driver.is_idle(names)

    def _pause(self) -> float:
        """Until the next staging, at the latest --sleep seconds after the last."""
        pause = max(0.0, self._stage_at - time.monotonic())
        return min(pause, EMPTY_CHECK_INTERVAL) if self._options.stop_when_empty else pause
