"""Fresh databases, one per test, on a server that may hold others: those are never touched."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from core.database.engine import Database
from core.database.migrations import upgrade


def _name() -> str:
    return f"routemq_test_{uuid.uuid4().hex[:16]}"


async def query(url: str, *statements: str) -> Sequence[tuple[object, ...]]:
    """Run statements, each in a transaction of its own; the last one's rows."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    rows: Sequence[tuple[object, ...]] = []
    try:
        async with engine.connect() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
                rows = [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()
    return rows


class Databases(ABC):
    """Makes and drops databases on one server. A database is known by its SQLAlchemy URL."""

    kind: str

    def __init__(self) -> None:
        self._migrated: str | None = None

    @abstractmethod
    async def create(self) -> str:
        """A new, empty database."""

    @abstractmethod
    async def copy(self, url: str) -> str:
        """A new database with the tables and rows of another that nobody is connected to."""

    @abstractmethod
    async def drop(self, url: str) -> None: ...

    async def create_migrated(self) -> str:
        """A new database with RouteMQ's tables. The migrations run once per server; the rest is copied."""
        if self._migrated is None:
            self._migrated = await self.create()
            database = Database(self._migrated)
            await upgrade(database)
            await database.close()
        return await self.copy(self._migrated)

    def close(self) -> None:
        if self._migrated:
            asyncio.run(self.drop(self._migrated))
            self._migrated = None


class SqliteDatabases(Databases):
    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(prefix="routemq-test-"))

    async def create(self) -> str:
        return f"sqlite+aiosqlite:///{self._directory}/{_name()}.sqlite3"

    async def copy(self, url: str) -> str:
        new = await self.create()
        with closing(sqlite3.connect(_path(url))) as source, closing(sqlite3.connect(_path(new))) as target:
            target.execute("PRAGMA journal_mode=WAL")
            source.backup(target)
        return new

    async def drop(self, url: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(_path(url) + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        shutil.rmtree(self._directory)


class _ServerDatabases(Databases):
    driver: str
    options = ""  # of CREATE DATABASE

    def __init__(self, admin_url: str) -> None:
        super().__init__()
        self._admin = make_url(admin_url).set(drivername=self.driver)

    async def create(self) -> str:
        name = _name()
        await self._run(f"CREATE DATABASE {name} {self.options}")
        return self._render(self._admin.set(database=name))

    async def _run(self, *statements: str) -> Sequence[tuple[object, ...]]:
        return await query(self._render(self._admin), *statements)

    def _render(self, url: URL) -> str:
        return url.render_as_string(hide_password=False)


class PostgresDatabases(_ServerDatabases):
    kind = "postgresql"
    driver = "postgresql+asyncpg"

    def __init__(self, admin_url: str) -> None:
        super().__init__(admin_url)
        self._admin = self._admin.set(database=self._admin.database or "postgres")

    async def copy(self, url: str) -> str:
        name = _name()
        await self._run(f"CREATE DATABASE {name} TEMPLATE {_database(url)}")
        return self._render(self._admin.set(database=name))

    async def drop(self, url: str) -> None:
        # FORCE: a worker that a test killed may still be connected.
        await self._run(f"DROP DATABASE IF EXISTS {_database(url)} WITH (FORCE)")


class MysqlDatabases(_ServerDatabases):
    kind = "mysql"
    driver = "mysql+asyncmy"
    options = "CHARACTER SET utf8mb4"

    async def copy(self, url: str) -> str:
        source, new = _database(url), await self.create()
        tables = await query(url, "SHOW TABLES")
        for (table,) in tables:
            target = f"{_database(new)}.`{table}`"
            await self._run(f"CREATE TABLE {target} LIKE {source}.`{table}`")
            await self._run(f"INSERT INTO {target} SELECT * FROM {source}.`{table}`")
        return new

    async def drop(self, url: str) -> None:
        await self._run(f"DROP DATABASE IF EXISTS {_database(url)}")


def _database(url: str) -> str:
    name = make_url(url).database
    if name is None or not name.startswith("routemq_test_"):
        raise AssertionError(f"{name} was not made by a test")
    return name


def _path(url: str) -> str:
    path = make_url(url).database
    assert path
    return path
