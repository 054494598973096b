"""The supervisor over real processes: restarts, replacements, stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from core.observability.events import Event, Events, ProcessDied, ProcessReplaced, ProcessStarted
from core.roles.supervisor import REPLACE_ME, SHORTEST_LIFE, Supervisor

PROMPT = 45.0

WAITS = "import signal, sys; print(end='', flush=True); signal.pause()"
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""


class Watched:
    """A supervisor and what it told."""

    def __init__(self) -> None:
        self.events = Events()
        self.seen: list[Event] = []
        self.events.subscribe(Event, self.seen.append)
        self._supervisors: list[Supervisor] = []

    def start(self, *code: str, count: int = 1, may_end: bool = False) -> Supervisor:
        """Of programs of Python: the first for the first start, and so on; the last for all that follow."""
        codes = list(code)

        def command(_: int) -> tuple[str, ...]:
            text = codes.pop(0) if len(codes) > 1 else codes[0]
            return sys.executable, "-S", "-c", text

        supervisor = Supervisor("test process", count, self.events, command=command, may_end=may_end)
        self._supervisors.append(supervisor)
        supervisor.start()
        return supervisor

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        changed = asyncio.Event()
        self.events.subscribe(Event, lambda _: changed.set())
        async with asyncio.timeout(PROMPT):
            while not condition():
                changed.clear()
                await changed.wait()

    async def close(self) -> None:
        async with asyncio.timeout(PROMPT):
            for supervisor in self._supervisors:
                await supervisor.stop(0)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    watched = Watched()
    yield watched
    await watched.close()


async def test_a_process_that_is_killed_is_started_anew(watched: Watched) -> None:
    watched.start(WAITS, count=2)
    await watched.until(lambda: len(watched.of(ProcessStarted)) == 2)
    first, _ = watched.of(ProcessStarted)
    os.kill(first.pid, signal.SIGKILL)
    await watched.until(lambda: len(watched.of(ProcessStarted)) == 3)
    (died,) = watched.of(ProcessDied)
    assert (died.name, died.pid, died.exit_code) == ("test process 1", first.pid, -signal.SIGKILL)
    assert watched.of(ProcessStarted)[2].name == "test process 1"


async def test_restarts_of_what_dies_at_once_grow_rare(watched: Watched) -> None:
    watched.start("raise SystemExit(3)")
    await watched.until(lambda: len(watched.of(ProcessDied)) == 3)
    delays = [died.restart_in for died in watched.of(ProcessDied)]
    assert delays == sorted(delays) and delays[0] > 0.3


async def test_one_that_asks_for_it_is_replaced_and_is_no_failure(watched: Watched) -> None:
    watched.start(f"raise SystemExit({REPLACE_ME})", WAITS)
    await watched.until(lambda: len(watched.of(ProcessStarted)) == 2)
    assert len(watched.of(ProcessReplaced)) == 1 and not watched.of(ProcessDied)


async def test_one_that_asks_for_it_again_and_again_does_not_take_the_whole_machine(watched: Watched) -> None:
    loop, times = asyncio.get_running_loop(), list[float]()
    watched.events.subscribe(ProcessStarted, lambda _: times.append(loop.time()))
    watched.start(f"raise SystemExit({REPLACE_ME})")
    await watched.until(lambda: len(times) == 3)
    assert times[2] - times[0] >= 2 * SHORTEST_LIFE - 0.1


async def test_ending_with_0_is_the_end_only_where_it_may_be(watched: Watched) -> None:
    supervisor = watched.start("raise SystemExit(3)", "raise SystemExit(0)", count=2, may_end=True)
    await asyncio.wait_for(supervisor.all_ended(), PROMPT)
    assert len(watched.of(ProcessDied)) == 1
    watched.start("raise SystemExit(0)", may_end=False)
    await watched.until(lambda: len(watched.of(ProcessDied)) == 2)
    assert watched.of(ProcessDied)[1].exit_code == 0


async def test_stop_asks_each_to_end(watched: Watched) -> None:
    supervisor = watched.start(WAITS, count=2)
    await watched.until(lambda: len(watched.of(ProcessStarted)) == 2)
    assert await supervisor.stop(PROMPT)
    assert not watched.of(ProcessDied)


async def test_what_does_not_end_within_the_grace_is_killed(watched: Watched, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    supervisor = watched.start(STUBBORN.replace("sys.argv[1]", repr(str(ready))))
    while not ready.exists():  # noqa: ASYNC110, the program has no other way to say it
        await asyncio.sleep(0.01)
    assert not await supervisor.stop(0.1)


async def test_stop_while_a_restart_is_waited_for_is_prompt(watched: Watched) -> None:
    supervisor = watched.start("raise SystemExit(3)")
    await watched.until(lambda: len(watched.of(ProcessDied)) == 3)  # the next is seconds away
    started = len(watched.of(ProcessStarted))
    assert await supervisor.stop(PROMPT)
    assert len(watched.of(ProcessStarted)) == started


async def test_a_system_without_room_for_a_process_is_tried_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, troubles = asyncio.create_subprocess_exec, [OSError("no room"), OSError("no room")]

    async def unreliable(*args: Any, **options: Any) -> asyncio.subprocess.Process:
        if troubles:
            raise troubles.pop()
        return await real(*args, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", unreliable)
    watched.start(WAITS)
    await watched.until(lambda: len(watched.of(ProcessStarted)) == 1)
    assert caplog.text.count("cannot start test process 1: no room") == 2
