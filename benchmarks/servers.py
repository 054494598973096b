"""The stores and the broker that the contenders meet: our own, on free ports, gone afterwards."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import make_url

from tests.servers.databases import MysqlDatabases, PostgresDatabases
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.mysql import MysqlProcess
from tests.servers.postgres import PostgresProcess
from tests.servers.process import ServerProcess
from tests.servers.redis import RedisProcess, ValkeyProcess

Process = TypeVar("Process", bound=ServerProcess)


class StoreMissing(Exception):
    """This machine does not have the server that a row needs."""


class Postgres(PostgresProcess):
    """Debian's where it is there."""

    user = (
        ("postgres" if "postgres" in {each.pw_name for each in pwd.getpwall()} else "nobody")
        if not os.geteuid()
        else None
    )

    def command(self) -> list[str]:
        # Without fsync: as with Redis, which keeps nothing on disk here, it is the programs that are compared.
        settings = {
            "listen_addresses": self.host,
            "fsync": "off",
            "full_page_writes": "off",
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "256MB",
            "max_connections": 200,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), *options]

    def prepare(self) -> None:
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if installed:
            self._programs = installed[-1].parent
        super().prepare()


class Mysql(MysqlProcess):
    """With room for a table of a million jobs, as PostgreSQL has it in the system's cache."""

    def command(self) -> list[str]:
        return [*super().command(), "--innodb-buffer-pool-size=1G"]


class Servers:
    """Each is started when it is first wanted."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    @cached_property
    def redis(self) -> RedisProcess:
        return self._start(RedisProcess() if RedisProcess.program else ValkeyProcess())

    @cached_property
    def mosquitto(self) -> MosquittoProcess:
        if not MosquittoProcess.program:
            raise StoreMissing("mosquitto is not on PATH")
        # Both ends free: what is measured is the client, not the broker's default of 20 messages in flight.
        return self._start(MosquittoProcess(settings="max_inflight_messages 0\nset_tcp_nodelay true"))

    @cached_property
    def postgres(self) -> PostgresDatabases:
        return PostgresDatabases(self._start(Postgres()).url)

    @cached_property
    def mysql(self) -> MysqlDatabases:
        if not MysqlProcess.program:
            raise StoreMissing("neither mariadbd nor mysqld is on PATH")
        return MysqlDatabases(self._start(Mysql()).url)

    @contextmanager
    def store(self, kind: str, directory: Path) -> Iterator[str]:
        """An empty store's address: a URL, or the path of an SQLite file."""
        yield from getattr(self, f"_{kind}")(directory)

    def _redis(self, directory: Path) -> Iterator[str]:
        if not self.redis.is_running:
            self.redis.start()
        asyncio.run(_flush(self.redis.url))
        yield self.redis.url

    def _sqlite(self, directory: Path) -> Iterator[str]:
        yield str(directory / "store.sqlite3")

    def _postgresql(self, directory: Path) -> Iterator[str]:
        yield from _database(self.postgres, "postgresql")

    def _mysql(self, directory: Path) -> Iterator[str]:
        yield from _database(self.mysql, "mysql")

    def _mqtt(self, directory: Path) -> Iterator[str]:
        """A broker of its own: none before it leaves sessions or messages behind."""
        self.__dict__.pop("mosquitto", None)
        server = self.mosquitto
        try:
            yield f"mqtt://{server.host}:{server.port}"
        finally:
            server.close()

    def _start(self, server: Process) -> Process:
        self._stack.callback(server.close)
        return server.start()


def _database(databases: Any, scheme: str) -> Iterator[str]:
    url = asyncio.run(databases.create())
    try:
        yield make_url(url).set(drivername=scheme).render_as_string(hide_password=False)
    finally:
        asyncio.run(databases.drop(url))


async def _flush(url: str) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as redis:
        await redis.flushall()


def our_settings(address: str, directory: Path) -> dict[str, str]:
    """RouteMQ's environment for a store; whatever the store, failures go to a database."""
    parts = urlsplit(address)
    sqlite = f"sqlite:///{directory / 'failed.sqlite3'}"
    return {
        "APP_PACKAGE": "bench_app",
        "LOG_LEVEL": "WARNING",
        "QUEUE_CONNECTION": "redis" if parts.scheme == "redis" else "database",
        **{
            "redis": {"REDIS_URL": address, "DATABASE_URL": sqlite},
            "": {"DATABASE_URL": f"sqlite:///{address}"},
        }.get(parts.scheme, {"DATABASE_URL": address}),
    }
