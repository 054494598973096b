"""Runs a dialect's statement, as it is written there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


async def rows(connection: AsyncConnection, statement: str, *parameters: Any) -> Sequence[Any]:
    """The rows that a statement returns."""
    return (await connection.exec_driver_sql(statement, parameters)).all()


def first_column(found: Sequence[Any]) -> list[Any]:
    """The first value of each row."""
    return [row[0] for row in found]
