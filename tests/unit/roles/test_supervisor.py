"""The supervisor: what happens when one cannot be started, or is gone already."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from core.clock import Backoff
from core.observability.events import Events, ProcessStarted
from core.roles import supervisor
from core.roles.supervisor import Supervisor

SLEEPER = (sys.executable, "-c", "import sys; sys.stdin.read()")


def sleepers(count: int, events: Events) -> Supervisor:
    return Supervisor("sleeper", count, events, command=lambda _: SLEEPER)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "Backoff", lambda *_: Backoff(0, 0))


async def test_a_process_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0
    spawn = asyncio.create_subprocess_exec

    async def scarce(*arguments: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(24, "Too many open files")
        return await spawn(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", scarce)
    events, started = Events(), asyncio.Event()
    events.subscribe(ProcessStarted, lambda _: started.set())
    processes = sleepers(1, events)
    processes.start()
    async with asyncio.timeout(20):
        await started.wait()
    await processes.stop(10)
    assert tries == 3
    assert [record.getMessage() for record in caplog.records if "Too many open files" in record.getMessage()] != []


async def test_processes_that_cannot_be_started_do_not_keep_the_router_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = asyncio.Event()

    async def none_left(*_: Any, **__: Any) -> Any:
        tried.set()
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none_left)
    monkeypatch.setattr(supervisor, "Backoff", lambda *_: Backoff(3600, 3600))
    processes = sleepers(2, Events())
    processes.start()
    await tried.wait()
    async with asyncio.timeout(20):
        await processes.stop(10)


class Gone:
    """A process that has ended, of which asyncio has not heard yet."""

    pid = 1

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.waited_for = asyncio.Event()

    def terminate(self) -> None:
        raise ProcessLookupError

    def kill(self) -> None:
        self.ended.set()
        raise ProcessLookupError

    async def wait(self) -> int:
        self.waited_for.set()
        await self.ended.wait()
        return 0


async def test_a_process_that_is_gone_already_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Gone()

    async def spawn(*_: Any, **__: Any) -> Gone:
        return gone

    monkeypatch.setattr(asyncio, "create_subprocess_exec", spawn)
    processes = sleepers(1, Events())
    processes.start()
    await gone.waited_for.wait()
    await processes.stop(0)


def test_it_is_healthy_while_each_process_shows_that_it_is(tmp_path: Path) -> None:
    processes = Supervisor("sleeper", 2, Events(), command=lambda _: SLEEPER, health_file=str(tmp_path / "health"))
    first, second = (tmp_path / f"health.{number}" for number in (1, 2))
    found = [processes.is_healthy]
    for file in (first, second):
        file.touch()
        found.append(processes.is_healthy)
    os.utime(first, (0, 0))
    assert [*found, processes.is_healthy] == [False, False, True, False]


def test_without_processes_it_is_healthy() -> None:
    assert sleepers(0, Events()).is_healthy
