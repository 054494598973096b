"""The servers that tests run against; what they are: tests/servers/kinds.py.

redis_server                          the Redis there is
sql_server, broker                    one test for each such server there is
redis_url, redis_prefix               keys of a test's own, deleted after it
database_url, migrated_database_url   a database of a test's own, dropped after it
client_id, unique                     names that no other test has
restartable_redis, restartable_postgres, restartable_mysql, restartable_mosquitto, restartable_broker
                                      a server of a test's own, to stop, kill, freeze and restart
"""

from __future__ import annotations

import faulthandler
import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_timeout  # type: ignore[import-untyped]

from tests.examples import load_profile
from tests.servers.databases import Databases
from tests.servers.iotcore import IotcoreProcess
from tests.servers.kinds import BrokerServer, RedisServer, Servers, broker_kinds, redis_kind, sql_kinds
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.mysql import MysqlProcess
from tests.servers.postgres import PostgresProcess
from tests.servers.redis import ValkeyProcess, delete_keys

needs_mosquitto = pytest.mark.skipif(MosquittoProcess.program is None, reason="mosquitto is not on PATH")

STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    load_profile()
    config.stash[STDERR] = os.dup(2)  # while a test runs, 2 is what it captures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those first that are given more time than usual, as they take it: what is left for the end is short, so that all
    processes end at the same time."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> None:
    """The stacks of a test that hangs. What pytest-timeout shows of them is lost in a process of pytest-xdist."""
    if hasattr(item.config, "workerinput"):
        faulthandler.dump_traceback_later(0.95 * settings.timeout, file=item.config.stash[STDERR])


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer() -> None:
    faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """pytest-timeout has no limit for what comes after a failure (pytest-timeout#196): the fixtures' ends have one."""
    if isinstance(node, pytest.Item):
        settings = pytest_timeout._get_item_settings(node)
        if settings.timeout and not settings.func_only:
            node.ihook.pytest_timeout_set_timer(item=node, settings=settings)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    servers = Servers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session")
def redis_server(servers: Servers) -> RedisServer:
    server: RedisServer = servers.get(redis_kind())
    return server


@pytest.fixture(scope="session", params=sql_kinds())
def sql_server(request: pytest.FixtureRequest, servers: Servers) -> Databases:
    databases: Databases = servers.get(request.param)
    return databases


@pytest.fixture(scope="session", params=broker_kinds())
def broker(request: pytest.FixtureRequest, servers: Servers) -> BrokerServer:
    server: BrokerServer = servers.get(request.param)
    return server


@pytest.fixture
def unique() -> str:
    """For names of queues, topics, groups and whatever else a server shares among tests."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
async def redis_prefix(redis_url: str, unique: str) -> AsyncIterator[str]:
    """What every key of this test is to contain (REDIS_PREFIX); such keys are deleted after it."""
    yield f"{unique}:"
    await delete_keys(redis_url, f"{unique}:")


@pytest.fixture
async def database_url(sql_server: Databases) -> AsyncIterator[str]:
    """An empty database."""
    url = await sql_server.create()
    yield url
    await sql_server.drop(url)


@pytest.fixture
async def migrated_database_url(sql_server: Databases) -> AsyncIterator[str]:
    """A database with RouteMQ's tables, empty."""
    url = await sql_server.create_migrated()
    yield url
    await sql_server.drop(url)


@pytest.fixture
def client_id(broker: BrokerServer, unique: str) -> Iterator[str]:
    """An MQTT client id; the session that the broker keeps for it is ended after the test."""
    yield unique
    broker.accepts(unique)


@pytest.fixture
def restartable_redis() -> Iterator[ValkeyProcess]:
    """With every write on disk: what it answered survives a kill."""
    with ValkeyProcess(append_only=True) as server:
        yield server


@pytest.fixture
def restartable_postgres() -> Iterator[PostgresProcess]:
    with PostgresProcess() as server:
        yield server


@pytest.fixture
def restartable_mysql() -> Iterator[MysqlProcess]:
    if MysqlProcess.program is None:
        pytest.skip("neither mariadbd nor mysqld is on PATH")
    with MysqlProcess() as server:
        yield server


@pytest.fixture(params=[pytest.param(MosquittoProcess, id="mosquitto", marks=needs_mosquitto)])
def restartable_mosquitto(request: pytest.FixtureRequest) -> Iterator[MosquittoProcess]:
    with request.param() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param(IotcoreProcess, id="iotcore"),
        pytest.param(MosquittoProcess, id="mosquitto", marks=needs_mosquitto),
    ]
)
def restartable_broker(request: pytest.FixtureRequest) -> Iterator[IotcoreProcess | MosquittoProcess]:
    with request.param() as server:
        yield server
