"""A worker on the memory driver, with what its jobs did recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest

from core.job import Job
from core.observability.events import Event, Events
from core.queue.drivers.memory import MemoryDriver
from core.queue.envelope import write_envelope
from core.queue.queue_manager import DispatchOptions, QueueManager
from core.queue.registry import JobRegistry
from core.queue.worker.executor import Executor
from core.queue.worker.limits import LimitRules, Limits
from core.queue.worker.options import WorkerOptions
from core.queue.worker.process_pool import ProcessPool
from core.queue.worker.process_wire import Setup
from core.queue.worker.queue_order import QueueOrder
from core.queue.worker.worker import Worker

__all__ = ["Workshop", "write_envelope"]

PROMPT = 10.0
"""Seconds within which anything a test waits for must come."""


async def ended(tasks: Collection[asyncio.Task[None]]) -> Collection[asyncio.Task[None]]:
    """The tasks, once all have ended. One that does not is left behind: whoever waits on, waits for ever."""
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=PROMPT)
        assert not pending, f"still running {PROMPT:g} s after its stop: {pending}"
    return tasks


class Workshop:
    """A store, a manager and workers for job classes of a test."""

    def __init__(self) -> None:
        self.driver = MemoryDriver()
        self.events = Events()
        self.processes = ProcessPool(1, 100, lambda: Setup(b""))
        self.seen: list[Event] = []
        self.events.subscribe(Event, self.seen.append)
        self.registry = JobRegistry()
        self.manager = QueueManager({"memory": lambda: self.driver}, DispatchOptions(connection="memory"))
        self._running: list[tuple[Worker, asyncio.Task[None]]] = []

    def register(self, *classes: type[Job]) -> None:
        for cls in classes:
            self.registry.register(cls)

    async def dispatch(self, *jobs: Job, **options: Any) -> list[str]:
        self.register(*(type(job) for job in jobs))
        return [await self.manager.push(job, **options) for job in jobs]

    def worker(
        self,
        *,
        queues: str = "default",
        max_tries: int | None = None,
        timeout: float | None = None,
        threads: int = 4,
        **options: Any,
    ) -> Worker:
        rules = LimitRules(Limits(3, 0.0, 5.0), max_tries, timeout)
        executor = Executor(self.registry, rules, processes=self.processes, threads=threads, events=self.events)
        options = {"sleep": 0.05, "lease": 5.0, "grace": 5.0} | options
        return Worker(self.driver, executor, WorkerOptions(QueueOrder.parse(queues), **options), self.events)

    async def work(self, **options: Any) -> None:
        """Run a worker until its queues are empty (or an option ends it)."""
        await asyncio.wait_for(self.worker(**({"stop_when_empty": True} | options)).run(), PROMPT)

    def start(self, **options: Any) -> tuple[Worker, asyncio.Task[None]]:
        worker = self.worker(**options)
        task = asyncio.create_task(worker.run())
        self._running.append((worker, task))
        return worker, task

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that an event will bring about."""
        changed = asyncio.Event()
        self.events.subscribe(Event, lambda _: changed.set())
        async with asyncio.timeout(PROMPT):
            while not condition():
                changed.clear()
                await changed.wait()

    async def close(self) -> None:
        for worker, task in self._running:
            if not task.done():
                worker.stop()
                worker.stop()
        for task in await ended([task for _, task in self._running]):
            task.cancelled() or task.exception()  # so that it does not count as unseen


@pytest.fixture
async def workshop() -> AsyncIterator[Workshop]:
    workshop = Workshop()
    yield workshop
    await workshop.close()


@pytest.fixture
def journal() -> list[Any]:
    """What the jobs of a test did, in order."""
    JOURNAL.clear()
    return JOURNAL


JOURNAL: list[Any] = []
