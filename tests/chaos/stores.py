"""The stores of chaos runs, on servers of their own: a run may kill and freeze them.

A server is started when the first run wants it, and serves all that follow; each run has a database or a prefix of
its own.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from core.database.tables import metadata
from tests.chaos.run import Run
from tests.servers.databases import Databases, MysqlDatabases, PostgresDatabases, SqliteDatabases, query
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.mysql import MysqlProcess
from tests.servers.postgres import PostgresProcess
from tests.servers.process import ServerProcess
from tests.servers.redis import ValkeyProcess, delete_keys


@dataclass(frozen=True)
class Store:
    kind: str
    """redis, sqlite, postgresql or mariadb."""
    settings: dict[str, str]
    """Environment variables."""
    server: ServerProcess | None
    """None for SQLite. Whoever hurts it leaves it running."""

    async def leftovers(self) -> dict[str, int]:
        """How much there is of what a store without jobs should not have, by key or table; failed_jobs left out."""
        if self.kind == "redis":
            return await _keys(self.settings["REDIS_URL"], self.settings["REDIS_PREFIX"])
        url = self.settings["DATABASE_URL"]
        counts = {name: await query(url, f"SELECT count(*) FROM {name}") for name in _QUEUE_TABLES}
        return {name: number for name, ((number,),) in counts.items() if isinstance(number, int) and number}


_QUEUE_TABLES = [name for name in metadata.tables if name != "failed_jobs"]


async def _keys(url: str, prefix: str) -> dict[str, int]:
    """The set of the queues' names may stay."""
    async with Redis.from_url(url, decode_responses=True) as client:
        keys = [key async for key in client.scan_iter(f"{prefix}*") if key != f"{prefix}queues"]
    return dict.fromkeys(keys, 1)


class ChaosServers:
    """What `scripts/chaos`, or one process of the tests, has started."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._servers: dict[str, ServerProcess] = {}
        self._databases: dict[str, Databases] = {}
        self._migrating = asyncio.Lock()
        """Alembic knows of one migration in a process."""

    @contextmanager
    def broker(self, *, own: bool) -> Iterator[MosquittoProcess]:
        """One that others use as well, one after the other, or an own one: all runs have the same topics."""
        if own:
            with MosquittoProcess() as broker:
                yield broker
            return
        server = self._server("mosquitto")
        assert isinstance(server, MosquittoProcess)
        yield server

    @asynccontextmanager
    async def store(self, kind: str) -> AsyncIterator[Store]:
        """A store of its own, migrated and empty."""
        databases = self._database("sqlite" if kind == "redis" else kind)
        async with self._migrating:
            url = await databases.create_migrated()
        settings = {"QUEUE_CONNECTION": "database", "DATABASE_URL": url}
        if kind == "redis":
            prefix = f"chaos{uuid.uuid4().hex[:12]}:"
            redis = self._server("redis")
            assert isinstance(redis, ValkeyProcess)
            settings |= {"QUEUE_CONNECTION": "redis", "REDIS_URL": redis.url, "REDIS_PREFIX": prefix}
        yield Store(kind, settings, self._servers.get(kind))
        await databases.drop(url)
        if kind == "redis":
            await delete_keys(settings["REDIS_URL"], settings["REDIS_PREFIX"])

    def start(self, kind: str) -> None:
        """Start what a store needs, lest that hold up runs that are played at the same time."""
        self._database("sqlite" if kind == "redis" else kind)
        if kind == "redis":
            self._server(kind)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _server(self, kind: str) -> ServerProcess:
        if kind not in self._servers:
            self._servers[kind] = self._stack.enter_context(_SERVERS[kind]())
        return self._servers[kind]

    def _database(self, kind: str) -> Databases:
        if kind not in self._databases:
            self._databases[kind] = self._open_databases(kind)
            self._stack.callback(self._databases[kind].close)
        return self._databases[kind]

    def _open_databases(self, kind: str) -> Databases:
        if kind == "sqlite":
            return SqliteDatabases()
        server: Any = self._server(kind)
        return PostgresDatabases(server.url) if kind == "postgresql" else MysqlDatabases(server.url)


def _redis() -> ValkeyProcess:
    return ValkeyProcess(append_only=True)


_SERVERS: dict[str, Any] = {
    "redis": _redis,
    "postgresql": PostgresProcess,
    "mariadb": MysqlProcess,
    "mosquitto": MosquittoProcess,
}


def missing(kind: str) -> str | None:
    """Why there is no such server here, if so."""
    if kind == "mariadb" and MysqlProcess.program is None:
        return "neither mariadbd nor mysqld is on PATH"
    if kind == "mosquitto" and MosquittoProcess.program is None:
        return "mosquitto is not on PATH"
    return None


def lack_of(run: Run, store: str) -> str | None:
    """Why a run cannot be played on a store here; None where it can."""
    return missing(store) or (missing("mosquitto") if run.broker else None) or run.lacks()
