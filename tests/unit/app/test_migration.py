from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from core.database.engine import Database
from core.database.migrations import model_metadata


async def test_the_migrations_make_the_tables_that_the_models_describe(migrated_database_url: str) -> None:
    database = Database(migrated_database_url)
    try:
        assert await database.read(lambda connection: connection.run_sync(_differences)) == []
    finally:
        await database.close()


def _differences(connection: Connection) -> list[Any]:
    metadata: Any = model_metadata("app")
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))
