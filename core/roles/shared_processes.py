"""The processes behind `shared=True, worker_count=N`: each one more member of the broker's $share group.

They are programs of their own, not forks, so that they inherit no connection, lock or signal handler.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from core.clock import Backoff
from core.observability.events import Events, ProcessDied, ProcessStarted

_log = logging.getLogger("routemq")

STEADY = 30.0
"""Seconds after which a process counts as started well, and its next restart is prompt again."""


class SharedProcesses:
    """Starts processes 1 to `count`, starts them anew when they die, and stops them."""

    def __init__(self, count: int, events: Events, *, command: Sequence[str] | None = None) -> None:
        """`command` is followed by a process' number; by default, this very program's `shared-process`."""
        self._command = command or (sys.executable, sys.argv[0], "shared-process")
        self._count = count
        self._events = events
        self._running: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        numbers = range(1, self._count + 1)
        self._watchers = [asyncio.create_task(self._watch(n), name=f"shared-process-{n}") for n in numbers]

    async def stop(self, grace: float) -> None:
        """Ask them to stop; what still runs after `grace` seconds is killed."""
        self._stopping.set()
        self.signal_stop()
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=grace)
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.kill()
        await asyncio.gather(*self._watchers)

    def signal_stop(self) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()

    async def _watch(self, number: int) -> None:
        backoff = Backoff(0.5, 30.0)
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            try:
                process = await self._spawn(number)
            except OSError as error:  # out of memory, of files or of processes: that may pass
                delay = backoff.next()
                _log.error("cannot start shared process %d: %s; trying again in %.1f s", number, error, delay)
                await self._pause(delay)
                continue
            code = await process.wait()
            del self._running[number]
            if asyncio.get_running_loop().time() - started > STEADY:
                backoff.reset()
            if not self._stopping.is_set():
                delay = backoff.next()
                self._events.emit(ProcessDied(f"shared process {number}", process.pid, code, delay))
                await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _spawn(self, number: int) -> Process:
        # A session of its own: Ctrl-C reaches it through us alone. The pipe closes when we die, however we do.
        process = await asyncio.create_subprocess_exec(*self._command, str(number), stdin=PIPE, start_new_session=True)
        self._running[number] = process
        self._events.emit(ProcessStarted(f"shared process {number}", process.pid))
        if self._stopping.is_set():
            with suppress(ProcessLookupError):
                process.terminate()
        return process
