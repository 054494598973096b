"""Starts Python programs from a process that has the libraries loaded already, which takes most of a program's start.

    process = start(script, *arguments, env=env, cwd=folder, stdout=1, stderr=2)

It is as if by `python script arguments`: a process of its own, in its own folder, environment and session, that loads
RouteMQ and the app as ever, ends as ever, and may be killed. Tests that start hundreds of programs use it.

What is not as ever: what takes effect before a program begins, such as PYTHONDEVMODE, LD_PRELOAD and a sitecustomize,
does nothing; all programs have the same hash seed; that a library's module was never imported does not show. Some tests
start programs cold, therefore: test_readme.py, test_dev.py, the chaos run clocks_wrong, and whatever a program starts.

How it works: a server, one for each process of the tests, loads the libraries and forks at each request.
"""

from __future__ import annotations

import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

LIBRARIES = (
    "aiomqtt",
    "aiosqlite",
    "asyncio",
    "asyncmy",
    "asyncpg",
    "click",
    "email.message",
    "msgspec",
    "pydantic_settings",
    "redis.asyncio",
    "smtplib",
    "sqlalchemy.dialects.mysql.asyncmy",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
    "uvloop",
)
_NUMBER = struct.Struct("!i")
"""What the server tells of a program: its process id, and when it has ended its exit code."""


class Process:
    """One such program. What it has is as of subprocess.Popen: `pid`, `returncode`, `poll`, `wait`, `kill` and
    `send_signal`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        weakref.finalize(self, connection.close)
        self.pid = self._receive()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or the negative of the signal that ended it. Several threads may wait.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self.returncode = self._receive(socket.MSG_PEEK)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _receive(self, flags: int = 0) -> int:
        told = self._connection.recv(_NUMBER.size, flags)
        if not told:
            raise RuntimeError("The process that starts programs has ended; standard error has what it said.")
        number: int = _NUMBER.unpack(told)[0]
        return number


def start(script: Path, *arguments: str, env: Mapping[str, str], cwd: Path | str, stdout: int, stderr: int) -> Process:
    """`stdout` and `stderr` are descriptors; standard input is empty. To be called by one thread."""
    server = _server()
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(server.requests, [b"."], [theirs.fileno(), stdout, stderr])
    request = {"argv": [str(script), *arguments], "env": dict(env), "cwd": str(cwd)}
    ours.sendall(json.dumps(request).encode() + b"\n")
    return Process(ours)


class _Server:
    """Ends with this process."""

    def __init__(self) -> None:
        self.requests, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # no terminal, for which programs would write otherwise
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )


@cache
def _server() -> _Server:
    """The one of this process."""
    return _Server()


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    del sys.path[0]  # this file's folder
    for library in LIBRARIES:
        import_module(library)
    requests = socket.socket(fileno=int(sys.argv[1]))
    program = _serve(requests)
    if program:
        runpy.run_path(program, run_name="__main__")


def _serve(requests: socket.socket) -> str | None:
    """Fork programs until nobody can ask for more. Returns in each of them, with its path."""
    running: dict[int, socket.socket] = {}
    wake, woken = socket.socketpair()
    for each in (wake, woken):
        each.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4096)
                _tell_of_ends(running)
            if requests in ready:
                said, descriptors, *_ = socket.recv_fds(requests, 1, 3)
                if not said:
                    return None
                asker, stdout, stderr = socket.socket(fileno=descriptors[0]), *descriptors[1:]
                pid = os.fork()
                if not pid:
                    break
                asker.sendall(_NUMBER.pack(pid))
                running[pid] = asker
                os.close(stdout)
                os.close(stderr)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(asker.makefile("r").readline())
    for each in (requests, wake, woken, asker, *running.values()):
        each.close()
    return _become(request, stdout, stderr)


def _tell_of_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as asker, suppress(OSError):  # who asked may be gone
            asker.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _become(request: dict[str, Any], stdout: int, stderr: int) -> str:
    """Give this process what the program is to find; its path."""
    os.setsid()
    stdin = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    program = str(request["argv"][0])
    path = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.argv = request["argv"]
    sys.path[:0] = [str(Path(program).parent), *path]
    return program


if __name__ == "__main__":
    main()
