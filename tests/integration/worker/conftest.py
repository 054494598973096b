"""A worker whose jobs run in child processes and speak to the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from core.application import Application
from core.job import Job
from core.observability.events import Event
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder
from core.queue.worker.worker import Worker
from core.settings import load_settings
from tests.servers.databases import Databases
from tests.servers.kinds import Servers

PROMPT = 45.0
"""Seconds within which anything a test waits for must come, on a machine busy with other tests."""


class Line:
    """Where jobs call, each waiting for an answer."""

    def __init__(self) -> None:
        self._calls: asyncio.Queue[tuple[str, asyncio.StreamWriter]] = asyncio.Queue()
        self._open: list[asyncio.StreamWriter] = []

    async def heard(self) -> str:
        """What the next caller says; it goes on waiting for an answer."""
        async with asyncio.timeout(PROMPT):
            words, writer = await self._calls.get()
        self._open.append(writer)
        return words

    async def answered(self) -> str:
        """What the next caller says; it may go on at once."""
        words = await self.heard()
        await self.answer()
        return words

    async def answer(self) -> None:
        """Let the caller that was heard last go on."""
        writer = self._open.pop()
        writer.close()
        await writer.wait_closed()

    @property
    def is_silent(self) -> bool:
        """Whether nobody has called beside those that were heard."""
        return self._calls.empty()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().rstrip()
        await self._calls.put((words, writer))

    async def close(self) -> None:
        while not self._calls.empty():
            self._open.append(self._calls.get_nowait()[1])
        for writer in self._open:
            writer.close()


class Plant:
    """An Application and the workers of a test."""

    def __init__(self, app: Application, line: str) -> None:
        self.app = app
        self.line = line
        self.seen: list[Event] = []
        app.events.subscribe(Event, self.seen.append)
        self._running: list[tuple[Worker, asyncio.Task[None]]] = []

    async def dispatch(self, *jobs: Job) -> list[str]:
        return await self.app.queues.bulk(jobs)

    def start(self, max_tries: int | None = None, timeout: float | None = None, **options: Any) -> Worker:
        given = WorkerOptions(QueueOrder(("default",)), **{"sleep": 0.05, "lease": 5.0} | options)
        worker = self.app.worker(given, max_tries=max_tries, timeout=timeout)
        self._running.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def stop(self) -> None:
        """Stop the worker started last, and wait for its end."""
        worker, task = self._running[-1]
        worker.stop()
        await asyncio.wait_for(asyncio.shield(task), PROMPT)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that an event will bring about."""
        changed = asyncio.Event()
        self.app.events.subscribe(Event, lambda _: changed.set())
        async with asyncio.timeout(PROMPT):
            while not condition():
                changed.clear()
                await changed.wait()

    async def close(self) -> None:
        for worker, task in self._running:
            if not task.done():
                worker.stop()
                worker.stop()
        tasks = [task for _, task in self._running]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=PROMPT)
            assert not pending, f"still running {PROMPT:g} s after its stop: {pending}"
        for task in tasks:
            task.result()


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    line = Line()
    server = await asyncio.start_unix_server(line.take, tmp_path / "line")
    yield line
    await line.close()
    server.close()
    await server.wait_closed()


@pytest.fixture
def plant_settings() -> dict[str, Any]:
    """Of the queue; a test may bring its own."""
    return {"processes": 2}


@pytest.fixture
async def plant(line: Line, tmp_path: Path, servers: Servers, plant_settings: dict[str, Any]) -> AsyncIterator[Plant]:
    databases: Databases = servers.get("sqlite")
    url = await databases.create_migrated()
    settings = load_settings(
        None, app={"package": "tests.integration.process_app"}, queue=plant_settings, database={"url": url}
    )
    async with Application(settings) as app:
        plant = Plant(app, str(tmp_path / "line"))
        yield plant
        await plant.close()
    await databases.drop(url)
