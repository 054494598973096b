"""Connections to SQLite that do not outlive a caller who was cancelled: its thread goes on without him."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import aiosqlite

_FETCH_AT_ONCE = 64
"""Rows; aiosqlite's own default."""


class SqliteConnection(sqlite3.Connection):
    """Closes with all of its statements.

    SQLite keeps a closed connection, file and lock and all, while anybody holds a statement of it, such as the
    traceback of who was cancelled.
    """

    def __init__(self, *place: Any, **options: Any) -> None:
        super().__init__(*place, **options)
        self._cursors = WeakSet[sqlite3.Cursor]()

    def cursor(self, *factory: Any) -> Any:
        cursor = super().cursor(*factory)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        for cursor in self._cursors:
            cursor.close()
        super().close()


async def connect(*place: Any, pragmas: dict[str, object], **options: Any) -> aiosqlite.Connection:
    """Open a connection with its pragmas set; `place` and `options` are those of sqlite3.connect().

    aiosqlite's thread cannot be cancelled: it opens the file all the same, and then nobody has what it opened.
    Python would close that when the garbage collector comes by; here it is closed before the cancellation goes on.
    """
    opening = asyncio.ensure_future(_connection(partial(_open, *place, pragmas=pragmas, **options)))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.ensure_future(_close(opening)))
        raise


async def _connection(connector: Callable[[], sqlite3.Connection]) -> aiosqlite.Connection:
    connection = aiosqlite.Connection(connector, _FETCH_AT_ONCE)
    # As SQLAlchemy has it: a statement that hangs must not keep the process alive.
    connection._thread.daemon = True  # noqa: SLF001, there is no other way
    return await connection


async def _close(opening: asyncio.Future[aiosqlite.Connection]) -> None:
    with suppress(sqlite3.Error):
        await (await opening).close()


def _open(*place: Any, pragmas: dict[str, object], **options: Any) -> sqlite3.Connection:
    connection = sqlite3.connect(*place, factory=SqliteConnection, **options)
    try:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}").close()
    except BaseException:
        connection.close()
        raise
    return connection
