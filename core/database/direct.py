"""Statements given to the database's own library: SQLAlchemy's way of running one takes longer than most do.

With SQLite, it also crosses over to the thread of the connection for each of execute, fetch, commit and rollback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

Answer = TypeVar("Answer")


def is_direct(connection: AsyncConnection) -> bool:
    """Whether `call` may be used: not in a transaction, as SQLAlchemy begins that with a statement of its own."""
    return not connection.in_transaction()


async def call(connection: AsyncConnection, work: Callable[[Any], Awaitable[Answer]]) -> Answer:
    """Run `work` on the library's connection, and leave no transaction open there.

    Raises what SQLAlchemy makes of an error; a connection that is dead, or whose caller was cancelled, is given up.
    """
    pooled: Any = connection.sync_connection.connection if connection.sync_connection else None
    try:
        return await work(pooled.driver_connection)
    except BaseException as error:
        await connection.run_sync(partial(_explain, error=error))
        raise


def _explain(connection: Connection, error: BaseException) -> None:
    """What SQLAlchemy does where a statement of its own fails; it has no public name for that."""
    adapted: Any = connection.connection.dbapi_connection
    try:
        if isinstance(error, Exception):
            adapted._handle_exception(error)  # noqa: SLF001
        raise error
    except BaseException as translated:  # as it is, where the library does not know it
        connection._handle_dbapi_exception(translated, None, None, None, None)  # noqa: SLF001
