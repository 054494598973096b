"""Statements given to asyncpg itself: SQLAlchemy's way of running one takes longer than most statements do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

Answer = TypeVar("Answer")


def is_direct(connection: AsyncConnection) -> bool:
    """Whether `call` may be used: not in a transaction, as SQLAlchemy begins that with a statement of its own."""
    return bool(_pooled(connection).dbapi_connection.autocommit)


async def call(connection: AsyncConnection, work: Callable[[Any], Awaitable[Answer]]) -> Answer:
    """Run `work` on asyncpg's connection. Raises what SQLAlchemy makes of an error, and leaves a dead connection."""
    try:
        return await work(_pooled(connection).driver_connection)
    except BaseException as error:
        await connection.run_sync(partial(_explain, error=error))
        raise


def _pooled(connection: AsyncConnection) -> Any:
    return connection.sync_connection.connection if connection.sync_connection else None


def _explain(connection: Connection, error: BaseException) -> None:
    """What SQLAlchemy does where a statement of its own fails; it has no public name for that."""
    adapted: Any = connection.connection.dbapi_connection
    try:
        if isinstance(error, Exception):
            adapted._handle_exception(error)  # noqa: SLF001
    except Exception as translated:
        error = translated
    connection._handle_dbapi_exception(error, None, None, None, None)  # noqa: SLF001
