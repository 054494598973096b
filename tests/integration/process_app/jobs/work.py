from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from core.errors import PermanentError, SoftTimeout
from core.job import Job
from core.queue.queue_manager import dispatch, dispatch_from_thread
from tests.integration.process_app.line import say


class InProcess(Job):
    execution = "process"
    timeout: float = 0
    retry_after = 0
    line: str


class Report(InProcess):
    def handle(self) -> None:
        say(self.line, os.getpid())


class Quick(Job):
    execution = "process"

    def handle(self) -> None:
        pass


class ReportAsync(InProcess):
    async def handle(self) -> None:
        await asyncio.sleep(0)
        say(self.line, os.getpid())


def _quietly(function: Any) -> Any:
    """A decorator that hides that what it decorates is a coroutine function."""

    def call(*args: Any) -> Any:
        return function(*args)

    return call


class ReportDecorated(ReportAsync):
    @_quietly
    async def handle(self) -> None:
        await super().handle()


class Knows(InProcess):
    def handle(self) -> None:
        say(self.line, f"{self.job_id} {self.queue} {self.attempts}")


class TwoArguments(Exception):
    """Fails to be unpickled, like many a library's."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Raises(InProcess):
    kind: str = "two"

    async def handle(self) -> None:
        say(self.line, f"try {self.attempts}")
        raise {
            "two": TwoArguments("this", "that \udcff"),
            "permanent": PermanentError("no use"),
            "exit": SystemExit(3),
            "cancelled": asyncio.CancelledError(),
        }[self.kind]


class Choosy(InProcess):
    """Its `should_retry` needs the exception itself."""

    retry: bool

    def handle(self) -> None:
        raise TwoArguments("yes" if self.retry else "no", "so")

    def should_retry(self, exception: Exception) -> bool:
        return isinstance(exception, TwoArguments) and str(exception).startswith("yes")


class Dies(InProcess):
    how: str

    def handle(self) -> None:
        say(self.line, os.getpid())
        match self.how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(7)
            case "segfault":
                ctypes.string_at(0)
            case "hang up":
                os.closerange(3, 4096)  # the socket has the number that it has in the parent


class StopsTalking(InProcess):
    """Closes one direction of each connection that it finds, and lives on."""

    def handle(self) -> None:
        self.stop_talking()
        time.sleep(3600)

    def stop_talking(self) -> None:
        say(self.line, os.getpid())
        for descriptor in range(3, 4096):  # the socket has the number that it has in the parent
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
                found.shutdown(socket.SHUT_WR)


class StopsTalkingLater(StopsTalking):
    """Once it has ended, as soon as it gets an answer."""

    def handle(self) -> None:
        threading.Thread(target=self.stop_talking, daemon=True).start()


class Large(InProcess):
    data: str

    def handle(self) -> None:
        say(self.line, len(self.data))
        raise ValueError(self.data)


class Endless(InProcess):
    def handle(self) -> None:
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        say(self.line, f"{os.getpid()} {grandchild.pid}")
        time.sleep(3600)


class Leaves(InProcess):
    """A fork of the job keeps what the job had open."""

    def handle(self) -> None:
        if os.fork() == 0:
            say(self.line, os.getpid())
            os._exit(0)
        os._exit(7)


class DispatchesFromThread(InProcess):
    def handle(self) -> None:
        dispatch_from_thread(Report(line=self.line))
        dispatch_from_thread(Report(line=self.line))


class Dispatches(InProcess):
    async def handle(self) -> None:
        await dispatch(Report(line=self.line))


class Saves(InProcess):
    soft_timeout = 0.05

    def handle(self) -> None:
        try:
            time.sleep(3600)
        except SoftTimeout:
            say(self.line, "saved")


class SavesAsync(InProcess):
    soft_timeout = 0.05

    async def handle(self) -> None:
        try:
            await asyncio.Event().wait()
        except SoftTimeout:
            say(self.line, "saved")


class DoesNotSave(InProcess):
    soft_timeout = 0.05

    def handle(self) -> None:
        time.sleep(3600)


class HandleHere(Job):
    line: str

    def handle(self) -> None:
        say(self.line, os.getpid())
