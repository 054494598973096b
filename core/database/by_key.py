"""Statements that name many keys: a bounded number each, and on MySQL such as lock no other row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, delete
from sqlalchemy.ext.asyncio import AsyncConnection

KEYS = 500
"""Keys that one statement names at most."""

T = TypeVar("T")


def in_parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(keys), KEYS):
        yield keys[start : start + KEYS]


async def select_by_key(
    connection: AsyncConnection, query: Select[Any], key: ColumnElement[Any], keys: Sequence[Any]
) -> list[Row[Any]]:
    """The rows of a query whose `key` is one of these."""
    found: list[Row[Any]] = []
    for part in in_parts(keys):
        found += await connection.execute(query.where(key.in_(part)))
    return found


async def delete_by_key(connection: AsyncConnection, key: Any, keys: Sequence[Any]) -> int:
    """Delete the rows of a table whose `key`, an indexed column, is one of these; returns how many there were."""
    return sum([await _delete(connection, key, part) for part in in_parts(keys)])


async def _delete(connection: AsyncConnection, key: Any, keys: Sequence[Any]) -> int:
    """MySQL reads all of a small table, and waits for rows on the way, unless an order and a limit lead it."""
    if connection.dialect.name != "mysql":
        return (await connection.execute(delete(key.table).where(key.in_(keys)))).rowcount
    places = ", ".join(["%s"] * len(keys))
    statement = f"DELETE FROM {key.table.name} WHERE {key.name} IN ({places}) ORDER BY {key.name} LIMIT {len(keys)}"  # noqa: S608
    return (await connection.exec_driver_sql(statement, tuple(keys))).rowcount
