"""SQLite's channel: the file itself, looked at with cheap questions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.database.engine import Database
from core.queue.driver import WakeUp
from core.queue.drivers.statements.sqlite import moment
from core.queue.drivers.wake_up.polling import PollingWakeUp
from core.queue.drivers.wake_up.pushes import Pushes

_PAUSE = 0.015
"""Seconds. A look takes a few microseconds, so this costs nothing and is felt by nobody."""

# Queues, now. Returns whether one of them has a job to fetch: looks at the beginning of each in the index.
_AVAILABLE = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE queue IN ({queues}) AND lease_expires_at IS NULL AND available_at <= ?)
"""


class SqliteChannel:
    def __init__(self, database: Database) -> None:
        if database.url.path is None:
            raise ValueError(f"{database.address} is not an SQLite database")
        self._path = database.url.path
        self._pushes = Pushes()

    def may_carry(self) -> bool:
        return False

    def announce(self, queues: Iterable[str], *, is_notified: bool = False) -> None:
        self._pushes.tell(queues)

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        return PollingWakeUp(self._pushes.wake_up(queues), SqliteLookout(self._path, queues), _PAUSE, _PAUSE)

    async def close(self) -> None:
        self._pushes.tell_all()


class SqliteLookout:
    """Looks on a connection of its own: `PRAGMA data_version` tells whether other connections wrote.

    Most of that is jobs being finished. A push moves the sequence from which ids come, be it due or not; after a
    release or a rescue, a job can be fetched. The questions are asked on the event loop, since they never wait:
    readers do not block in WAL mode, and a connection without patience gives up at once where they would.
    """

    def __init__(self, path: Path, queues: Sequence[str]) -> None:
        self._path = path
        self._queues = queues
        self._available = _AVAILABLE.format(queues=", ".join("?" * len(queues)))
        self._connection: sqlite3.Connection | None = None
        self._version = self._sequence = -1
        self._look()

    async def sees_push(self) -> bool:
        return self._look()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _look(self) -> bool:
        try:
            return self._has_changed("PRAGMA data_version", "_version") and (
                self._has_changed("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'", "_sequence")
                or bool(self._ask(self._available, *self._queues, moment()))
            )
        except sqlite3.Error:  # no such file or table yet, or locked: the next look tells
            self.close()
            self._version = -1  # a new connection counts anew
            return False

    def _has_changed(self, question: str, seen: str) -> bool:
        value = self._ask(question)
        changed: bool = value != getattr(self, seen)
        setattr(self, seen, value)
        return changed

    def _ask(self, question: str, *parameters: str) -> int:
        row = self._open().execute(question, parameters).fetchone()
        return row[0] if row else 0

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            uri = f"{self._path.resolve().as_uri()}?mode=rw"  # never makes the file
            self._connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
        return self._connection
