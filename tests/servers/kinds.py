"""Which servers a test run has: those brought along, and those named in the environment.

A server named by TEST_REDIS_URL, TEST_POSTGRES_URL, TEST_MYSQL_URL or TEST_MQTT_URL takes the place of the
others of its kind. No MariaDB or MySQL can be brought along: the tests that are to run on every database run on it
where it is named. mosquitto is taken from PATH as well. What is missing is skipped with the reason; what is named must
answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from tests.servers import mqtt_wire
from tests.servers.databases import Databases, MysqlDatabases, PostgresDatabases, SqliteDatabases
from tests.servers.iotcore import IotcoreProcess
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.postgres import PostgresProcess
from tests.servers.redis import ValkeyProcess
from tests.servers.redis_cluster import RedisCluster


@dataclass(frozen=True)
class RedisServer:
    kind: str
    url: str


@dataclass(frozen=True)
class BrokerServer:
    """`port` speaks MQTT 5, `port_311` MQTT 3.1.1; most brokers have one port for both."""

    kind: str
    host: str
    port: int
    port_311: int
    username: str | None = None
    password: str | None = None

    def accepts(self, client_id: str = "") -> bool:
        """Whether it accepts a connection, which also ends `client_id`'s session."""
        return mqtt_wire.accepts(self.host, self.port_311, client_id, self.username, self.password)


class _Closable(Protocol):
    def close(self) -> None: ...


class Servers:
    """The servers of this test run, each started when the first test wants it, all stopped at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._started: dict[str, Any] = {}

    def get(self, kind: str) -> Any:
        if kind not in self._started:
            self._started[kind] = _START[kind](self)
        return self._started[kind]

    def keep(self, server: _Closable) -> None:
        self._stack.callback(server.close)

    def close(self) -> None:
        self._stack.close()


def redis_kind() -> str:
    return "named-redis" if "TEST_REDIS_URL" in os.environ else "valkey"


def redis_cluster_kinds() -> list[str]:
    return [] if "TEST_REDIS_URL" in os.environ else ["valkey-cluster"]


def postgres_kind() -> str:
    return "named-postgres" if "TEST_POSTGRES_URL" in os.environ else "postgres"


def sql_kinds() -> list[Any]:
    return [
        "sqlite",
        postgres_kind(),
        _or_skipped("named-mysql", "TEST_MYSQL_URL" in os.environ, "TEST_MYSQL_URL names no MariaDB or MySQL"),
    ]


def broker_kinds() -> list[Any]:
    if "TEST_MQTT_URL" in os.environ:
        return ["named-mqtt"]
    reason = "mosquitto is not on PATH, and TEST_MQTT_URL names no broker"
    return ["iotcore", _or_skipped("mosquitto", MosquittoProcess.program is not None, reason)]


def broker_kind() -> str:
    """For what has nothing to do with the kind of broker: the one that is nearest to what users run."""
    found: str = [kind for kind in broker_kinds() if isinstance(kind, str)][-1]
    return found


def _or_skipped(kind: str, is_there: bool, reason: str) -> Any:
    """The kind; where it is missing, a parameter that is skipped with the reason."""
    return kind if is_there else pytest.param(kind, marks=pytest.mark.skip(reason=reason))


def _start_redis(servers: Servers) -> RedisServer:
    server = ValkeyProcess()
    servers.keep(server)
    return RedisServer("valkey", server.start().url)


def _start_redis_cluster(servers: Servers) -> RedisServer:
    cluster = RedisCluster()
    servers.keep(cluster)
    return RedisServer("valkey-cluster", cluster.start().url)


def _named_redis(servers: Servers) -> RedisServer:
    return RedisServer("named-redis", os.environ["TEST_REDIS_URL"])


def _postgres(servers: Servers) -> Databases:
    server = PostgresProcess()
    servers.keep(server)
    return PostgresDatabases(server.start().url)


def _named_databases(
    variable: str, databases: type[PostgresDatabases | MysqlDatabases]
) -> Callable[[Servers], Databases]:
    def start(servers: Servers) -> Databases:
        named = databases(os.environ[variable])
        servers.keep(named)
        return named

    return start


def _sqlite(servers: Servers) -> Databases:
    databases = SqliteDatabases()
    servers.keep(databases)
    return databases


def _start_broker(kind: str, process: type[MosquittoProcess | IotcoreProcess]) -> Callable[[Servers], BrokerServer]:
    def start(servers: Servers) -> BrokerServer:
        server = process()
        servers.keep(server)
        server.start()
        return BrokerServer(kind, server.host, server.port, server.port_311)

    return start


def _named_broker(servers: Servers) -> BrokerServer:
    url = urlsplit(os.environ["TEST_MQTT_URL"])
    port = url.port or 1883
    server = BrokerServer("named-mqtt", url.hostname or "127.0.0.1", port, port, url.username, url.password)
    assert server.accepts(), f"TEST_MQTT_URL={url.geturl()}: no MQTT broker accepts a connection there"
    return server


_START: dict[str, Callable[[Servers], Any]] = {
    "valkey": _start_redis,
    "valkey-cluster": _start_redis_cluster,
    "named-redis": _named_redis,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "named-postgres": _named_databases("TEST_POSTGRES_URL", PostgresDatabases),
    "named-mysql": _named_databases("TEST_MYSQL_URL", MysqlDatabases),
    "iotcore": _start_broker("iotcore", IotcoreProcess),
    "mosquitto": _start_broker("mosquitto", MosquittoProcess),
    "named-mqtt": _named_broker,
}
