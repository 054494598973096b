"""How Alembic gets its connection: from `python main.py --migrate`; the command `alembic` opens one."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.ddl.mysql import MySQLImpl
from sqlalchemy import Connection, Table

from core.database.columns import PayloadText, UtcDateTime
from core.database.engine import Database
from core.database.migrations import model_metadata
from core.settings import load_settings


class _Mysql(MySQLImpl):
    """Leaves the primary key of Alembic's own table without a name, of which MariaDB warns."""

    __dialect__ = "mysql"

    def version_table_impl(self, **options: Any) -> Table:
        table = super().version_table_impl(**options)
        table.primary_key.name = None
        return table


def _render(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Write our own column types by their short names."""
    if kind != "type" or not isinstance(item, PayloadText | UtcDateTime):
        return False
    name = type(item).__name__
    autogenerate.imports.add(f"from core.database.columns import {name}")
    return f"{name}()"


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes.get("metadata"),
        render_as_batch=True,  # SQLite cannot alter a column; Alembic copies the table instead
        render_item=_render,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run_from_settings() -> None:
    settings = load_settings()
    context.config.attributes["metadata"] = model_metadata(settings.app.package)
    database = Database(settings.database.url)
    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(_run)
    finally:
        await database.close()


if "connection" in context.config.attributes:
    _run(context.config.attributes["connection"])
else:
    asyncio.run(_run_from_settings())
