"""Jobs that are pushed and worked off all the time, whatever happens to the store meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from core.errors import QueueUnavailableError
from core.queue.driver import Driver
from core.tasks import end_tasks
from tests.contract.jobs import eventually, ids, leases, new_jobs

T = TypeVar("T")

PATIENCE = 45.0
"""Seconds within which work must go on, on a machine busy with other tests."""
_LEASE = 2.0
_PAUSE = 0.02


class Traffic:
    """Repeats what the store did not answer, as those who dispatch and work do."""

    def __init__(self, pusher: Driver, worker: Driver, queues: Sequence[str]) -> None:
        self.pushed: set[str] = set()
        self.done: set[str] = set()
        self._pusher = pusher
        self._worker = worker
        self._queues = queues
        self._is_pushing = True

    async def goes_on(self, jobs: int = 30) -> None:
        """Until that many more jobs of each queue were pushed and done."""
        pushed, done = len(self.pushed), len(self.done)
        await eventually(lambda: self._has(pushed + jobs, done + jobs), within=PATIENCE)

    async def ends(self) -> None:
        """Push no more, until all is done that was."""
        self._is_pushing = False
        await eventually(self._has_all, within=PATIENCE)

    async def push(self, queue: str) -> None:
        while self._is_pushing:
            jobs = new_jobs(3, queue)
            await _answered(partial(self._pusher.push, jobs))
            self.pushed.update(ids(jobs))
            await asyncio.sleep(_PAUSE)

    async def work(self, queue: str) -> None:
        while True:
            fetched = await _answered(partial(self._worker.fetch, [queue], 10, _LEASE))
            stale = await _answered(partial(self._worker.complete, leases(fetched)))
            self.done.update(set(ids(fetched)) - stale)
            if not fetched:
                await _answered(partial(self._worker.rescue, [queue]))
                await asyncio.sleep(_PAUSE)

    async def _has(self, pushed: int, done: int) -> bool:
        return len(self.pushed) >= pushed and len(self.done) >= done

    async def _has_all(self) -> bool:
        return self.pushed <= self.done


@asynccontextmanager
async def traffic(pusher: Driver, worker: Driver, queues: Sequence[str]) -> AsyncIterator[Traffic]:
    running = Traffic(pusher, worker, queues)
    tasks = [asyncio.create_task(part(queue)) for queue in queues for part in (running.push, running.work)]
    try:
        yield running
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await end_tasks(*tasks)


async def _answered(ask: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await ask()
        except QueueUnavailableError:
            await asyncio.sleep(_PAUSE)
