"""Keeps a number of processes running: the shared ones of a router, or the workers of `--processes`.

They are programs of their own, not forks, so that they inherit no connection, lock or signal handler.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from core.clock import Backoff
from core.observability.events import Events, ProcessDied, ProcessReplaced, ProcessStarted
from core.observability.health import looks_healthy

_log = logging.getLogger("routemq")

STEADY = 30.0
"""Seconds after which a process counts as started well, and its next restart is prompt again."""
SHORTEST_LIFE = 1.0
"""Seconds between two starts of a process that asks to be replaced, at least: it may do so at once, for ever."""
REPLACE_ME = 75
"""The exit code by which a process asks for another in its place (EX_TEMPFAIL of sysexits.h)."""


class Supervisor:
    """Starts processes 1 to `count`, starts them anew when they die, and stops them.

    A process that ends with exit code 0 is done for good where `may_end`, and has died otherwise.
    """

    def __init__(
        self,
        name: str,
        count: int,
        events: Events,
        *,
        command: Callable[[int], Sequence[str]],
        health_file: str | None = None,
        may_end: bool = False,
    ) -> None:
        """`name` is what events call a process; `command` tells what to run, by its number.

        Each process shows its health by a file of its own: `health_file` with `.1`, `.2`, … behind it.
        """
        self._name = name
        self._count = count
        self._events = events
        self._command = command
        self._health_file = health_file
        self._may_end = may_end
        self._running: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        numbers = range(1, self._count + 1)
        self._watchers = [asyncio.create_task(self._watch(n), name=f"{self._name}-{n}") for n in numbers]

    @property
    def is_healthy(self) -> bool:
        """Whether each process, as its file says, has been well lately: one that is stuck is for somebody to see.

        Without a `health_file` nobody can tell, and none is.
        """
        return all(looks_healthy(f"{self._health_file}.{number}") for number in range(1, self._count + 1))

    async def all_ended(self) -> None:
        """Wait until every process has ended for good."""
        await asyncio.gather(*map(asyncio.shield, self._watchers))

    async def stop(self, grace: float) -> bool:
        """Ask them to stop; what still runs after `grace` seconds is killed. Returns whether nothing was."""
        self._stopping.set()
        self.signal_stop()
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=grace)
        late = list(self._running.values())
        for process in late:
            with suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._watchers)
        return not late

    def signal_stop(self) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()

    async def _watch(self, number: int) -> None:
        backoff = Backoff(0.5, 30.0)
        while not self._stopping.is_set():
            started = time.monotonic()
            process = await self._start_one(number, backoff)
            if process is None:
                return
            code = await process.wait()
            del self._running[number]
            if self._stopping.is_set() or (code == 0 and self._may_end):
                return
            lived = time.monotonic() - started
            if lived > STEADY:
                backoff.reset()
            await self._pause(self._delay(f"{self._name} {number}", process.pid, code, lived, backoff))

    async def _start_one(self, number: int, backoff: Backoff) -> Process | None:
        """A process, as soon as the system has room for one; None once we are to stop."""
        while not self._stopping.is_set():
            try:
                return await self._spawn(number)
            except OSError as error:
                delay = backoff.next()
                _log.error("cannot start %s %d: %s; trying again in %.1f s", self._name, number, error, delay)
                await self._pause(delay)
        return None

    def _delay(self, name: str, pid: int, code: int, lived: float, backoff: Backoff) -> float:
        """Seconds until the next start."""
        if code == REPLACE_ME:
            self._events.emit(ProcessReplaced(name, pid))
            return max(0.0, SHORTEST_LIFE - lived)
        delay = backoff.next()
        self._events.emit(ProcessDied(name, pid, code, delay))
        return delay

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _spawn(self, number: int) -> Process:
        health = {} if self._health_file is None else {"APP_HEALTH_FILE": f"{self._health_file}.{number}"}
        # A session of its own: Ctrl-C reaches it through us alone. The pipe closes when we die, however we do.
        process = await asyncio.create_subprocess_exec(
            *self._command(number), env={**os.environ, **health}, stdin=PIPE, start_new_session=True
        )
        self._running[number] = process
        self._events.emit(ProcessStarted(f"{self._name} {number}", process.pid))
        if self._stopping.is_set():
            with suppress(ProcessLookupError):
                process.terminate()
        return process
