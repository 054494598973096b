"""A child process that runs jobs, one at a time, as its worker sees it.

It is a program of its own and no fork, so it inherits no connection, lock or thread. It leads a process group
of its own: Ctrl-C does not reach it, and whatever its job has started is killed with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from typing import Self

from core.errors import JobProcessDiedError
from core.queue.worker.process_wire import HEADER, FromChild, Setup, ToChild, Work, frame, read_from_child

PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from core.roles.job_process_role import main; main(int(sys.argv[1]))"
"""The child looks for modules where its parent does, wherever either was started from."""

START_TIMEOUT = 60.0
"""Seconds that a child gets to import the app's jobs before it is killed: one that hangs there, on a server that
gives no answer for instance, would keep its place, and the lease of the job that waits for it, for ever."""

PATIENCE = 5.0
"""Seconds that a child gets to close its connections before it is killed."""


class JobProcess:
    """Made by `start`; `run` gives it one job at a time; ended by `end` or, at once, by `kill`."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.jobs = 0
        """How many it was given."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ended = asyncio.create_task(self._watch(), name=f"job-process-{process.pid}")

    @classmethod
    async def start(cls, setup: Setup) -> Self:
        """Start one, and wait until it has imported the app's jobs. Raises JobProcessDiedError where it cannot."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _spawn(theirs.fileno())
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        self = cls(process, reader, writer)
        try:
            await self._set_up(setup)
        except BaseException:
            await self.kill()
            raise
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._ended.done()

    async def run(self, work: Work) -> FromChild:
        """What came of a try. Raises JobProcessDiedError if the child dies of it; cancelled, it must be killed."""
        self.jobs += 1
        return await self._ask(work)

    async def kill(self) -> None:
        """Kill it and what its job has started; return once it is dead."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await asyncio.shield(self._ended)

    async def end(self) -> None:
        """Let it close its connections and end by itself."""
        if self.is_alive:
            self._writer.write_eof()
            await asyncio.wait({self._ended}, timeout=PATIENCE)
        await self.kill()

    async def _set_up(self, setup: Setup) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._ask(setup)
        except TimeoutError:
            raise JobProcessDiedError(
                f"the job's process {self.pid} did not import the app's jobs within {START_TIMEOUT:g} s, and was killed"
            ) from None

    async def _ask(self, message: ToChild) -> FromChild:
        try:
            self._writer.write(frame(message))
            await self._writer.drain()
            (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            return read_from_child(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            await self.kill()  # where it closed the socket and lives on
            raise JobProcessDiedError(f"the job's process {self.pid} {_end_of(self._process)}") from None

    async def _watch(self) -> None:
        """Nobody answers for the dead: a process forked by the job may keep the socket open."""
        await self._process.wait()
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()


async def _spawn(descriptor: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(descriptor), *sys.path),
        stdin=DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def _end_of(process: Process) -> str:
    code = process.returncode
    if code is None or code >= 0:
        return f"ended with exit code {code} before the job did"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
