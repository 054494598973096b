"""Where a process speaks to the world outside, step by step, and where it can be told to die.

A step is whatever another process could notice: bytes about to be written to a socket, bytes there to be read, an SQL
statement about to be run by SQLite (which lives in this process, and whose BEGIN and COMMIT are statements too), and
the end of what is watched. Between two steps nothing that could be noticed happens, so a process that was killed
before each of them was killed at every point that makes a difference.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from asyncio import selector_events
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client as PahoClient

from core.database import sqlite_connection

SocketTransport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]


class Steps:
    """Counts steps once it is armed, notes each in a file, and kills its process before the one that is `fatal`."""

    def __init__(self, fatal: int, notes: Path) -> None:
        self._fatal = fatal
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._count = 0
        self._is_armed = False

    def arm(self) -> None:
        """From now on steps count."""
        self._is_armed = True

    def step(self, name: str) -> None:
        """It is about to happen."""
        if not self._is_armed:
            return
        self._count += 1
        os.write(self._notes, f"{self._count} {name}\n".encode())
        if self._count == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # in a thread of SQLite's, the signal may take a moment


def watch(steps: Steps) -> None:
    """Have every step of this process counted, from here on and for good."""
    _before(SocketTransport, "write", lambda data: steps.step(f"write {len(data)} bytes"))
    _before(SocketTransport, "_read_ready", lambda: steps.step("read"))
    if hasattr(SocketTransport, "writelines"):
        _before(SocketTransport, "writelines", lambda *_: steps.step("write"))
    _before(PahoClient, "_sock_send", lambda data, *_: steps.step(f"send {_packet(data)}"))
    _before(PahoClient, "_sock_recv", lambda *_: steps.step("receive"))
    sqlite_connection.SqliteConnection = _traced(steps)  # type: ignore[assignment, misc]


def end_after_puback(steps: Steps) -> None:
    """End the process, as soon as the loop is back, once a PUBACK was sent."""
    send = PahoClient._sock_send

    def sending(self: PahoClient, data: bytes) -> int:
        sent = send(self, data)
        if _packet(data) == "PUBACK":
            asyncio.get_running_loop().call_soon(end)
        return sent

    def end() -> None:
        steps.step("end")
        os._exit(0)

    PahoClient._sock_send = sending  # type: ignore[assignment, method-assign]


def _before(owner: Any, name: str, told: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any) -> Any:
        told(*arguments)
        return original(self, *arguments)

    setattr(owner, name, wrapped)


def _traced(steps: Steps) -> type[sqlite3.Connection]:
    class Traced(sqlite_connection.SqliteConnection):
        def __init__(self, *place: Any, **options: Any) -> None:
            super().__init__(*place, **options)
            self.set_trace_callback(lambda statement: steps.step(f"SQLite: {' '.join(statement.split())[:40]}"))

    return Traced


_PACKETS = {1: "CONNECT", 3: "PUBLISH", 4: "PUBACK", 8: "SUBSCRIBE", 12: "PINGREQ", 14: "DISCONNECT"}


def _packet(data: bytes) -> str:
    return _PACKETS.get(data[0] >> 4, "packet")
