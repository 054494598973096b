"""A real server as a child process: started, stopped, killed, frozen and restarted at will."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.servers.guardian import guardian

READY_WITHIN = 45.0
"""Seconds; a machine busy with other tests is slow to start a server. Below the time limit of a test, the first of
which pays for the start: beyond it the process of the tests is killed, and nobody sees the server's log."""
STOPPED_WITHIN = 15.0  # seconds


def find_program(name: str) -> str | None:
    """Servers lie where the PATH of many users does not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def free_port() -> int:
    """A port nobody listens on, and that no other process of these tests is about to listen on.

    Below the range of outgoing connections: a client that reconnects to a stopped server on a port inside
    that range can end up connected to itself.
    """
    for port in islice(_ports(), 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise RuntimeError("No free port among 200 tried between 15000 and 32000.")


@cache
def _ports() -> Iterator[int]:
    """Those of this process, among the processes of pytest-xdist, in an order of its own."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(15000 + number, 32000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
    random.SystemRandom().shuffle(ports)
    return cycle(ports)


def is_alive(process: psutil.Process) -> bool:
    """A zombie is not: it has ended, and only waits for somebody to ask how."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class ServerProcess(ABC):
    """One server on a port and in a directory of its own, which it keeps over `restart()` and `kill()`.

    `close()` (or leaving the `with` block) stops it and removes the directory.
    """

    host = "127.0.0.1"
    stop_signal = signal.SIGTERM
    user: str | None = None  # the operating system's; None: ours

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="routemq-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared = False

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers in its own protocol."""

    def prepare(self) -> None:  # noqa: B027 (most servers need none)
        """Called once, before the first start."""

    @property
    def pid(self) -> int:
        assert self._process, f"{self} is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        assert not self.is_running, f"{self} is running already"
        deadline = time.monotonic() + READY_WITHIN
        if not self._prepared:
            self.prepare()
            self._prepared = True
        self._process = self._spawn()
        guardian().watch(self.pid, self.directory)
        self._await_ready(deadline)
        return self

    def stop(self) -> None:
        """As an operator stops it. Safe to call on one that is stopped."""
        if self._process and self.is_running:
            self.thaw()
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def kill(self) -> None:
        """As the power cut does it: SIGKILL to the server and all its children."""
        if self._process:
            family = self._family()
            _each(family, psutil.Process.kill)
            self._process.wait()
            wait_until(lambda: not any(is_alive(member) for member in family))
        self._forget()

    def freeze(self) -> None:
        """It still holds its connections, and answers nothing."""
        family = self._family()
        _each(family, psutil.Process.suspend)
        wait_until(lambda: all(_has_stopped(member) for member in family))

    def thaw(self) -> None:
        _each(self._family(), psutil.Process.resume)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{type(self).__name__} on {self.host}:{self.port}"

    @property
    def _log_path(self) -> Path:
        return self.directory / "server.log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal is for pytest, which then stops the servers.
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
                user=self.user,
            )

    def _await_ready(self, deadline: float) -> None:
        while not self.is_ready():
            if not self.is_running or time.monotonic() > deadline:
                log = self.log()
                self.close()
                raise RuntimeError(f"{self} did not start. Its log:\n{log[-4000:]}")
            time.sleep(0.01)

    def _family(self) -> list[psutil.Process]:
        # The parent first: a frozen one makes no more children.
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _forget(self) -> None:
        if self._process:
            guardian().forget(self._process.pid)
        self._process = None


def _each(family: list[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    """To all of them that are still there: a database's processes come and go with their clients."""
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            action(member)


def _has_stopped(member: psutil.Process) -> bool:
    """Or ended before it was told to."""
    try:
        return bool(member.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], within: float = STOPPED_WITHIN) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"waited {within} s in vain"
        time.sleep(0.005)
