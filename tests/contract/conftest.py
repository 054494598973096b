"""`driver`: every driver there is, on every server there is, each in a place of its own.

A new driver adds a branch to `_place`, and no test.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from core.database.engine import Database
from core.database.tables import metadata
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.memory import MemoryDriver, MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from tests.contract.cost import redis_commands, sql_statements
from tests.contract.passing_time import MovableClock, let_pass_in_database, let_pass_in_redis
from tests.servers.databases import Databases, query
from tests.servers.kinds import RedisServer, Servers, redis_cluster_kinds, redis_kind, sql_kinds
from tests.servers.redis import client_of, delete_keys


@dataclass(frozen=True)
class Place:
    """Where a test keeps its jobs."""

    open: Callable[[], Driver]
    """Makes a driver to it, with connections of its own, as another process would."""
    cost: Callable[[Driver], AbstractAsyncContextManager[Counter[str]]] | None
    """Counts what a driver asks of its server meanwhile; None where there is no server."""
    let_pass: Callable[[int], Awaitable[None]]
    """Lets that many seconds pass in the store at once, while nobody is at work."""


class EmptyDatabases:
    """One migrated database per server, emptied for each test: that is quicker than one per test."""

    def __init__(self) -> None:
        self._urls: dict[Databases, str] = {}

    async def get(self, server: Databases) -> str:
        if server not in self._urls:
            self._urls[server] = await server.create_migrated()
        url = self._urls[server]
        await query(url, *(f"DELETE FROM {table}" for table in metadata.tables))
        return url

    async def drop(self) -> None:
        for server, url in self._urls.items():
            await server.drop(url)


@pytest.fixture(scope="session")
def empty_databases(servers: Servers) -> Iterator[EmptyDatabases]:
    databases = EmptyDatabases()
    yield databases
    asyncio.run(databases.drop())


ON_CLUSTER = {"test_push", "test_fetch", "test_outcomes", "test_failed_jobs", "test_wake_up", "test_life"}
"""Enough of them to run every script and every command there; what these do is the same on a single server."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        cluster = redis_cluster_kinds() if metafunc.module.__name__.rpartition(".")[2] in ON_CLUSTER else []
        metafunc.parametrize("place", ["memory", redis_kind(), *cluster, *sql_kinds()], indirect=True)


@pytest.fixture
async def place(
    request: pytest.FixtureRequest, servers: Servers, empty_databases: EmptyDatabases, unique: str
) -> AsyncIterator[Place]:
    async with _place(request.param, servers, empty_databases, f"{unique}:") as place:
        yield place


@pytest.fixture
async def driver(place: Place) -> AsyncIterator[Driver]:
    driver = place.open()
    yield driver
    await driver.close()


@pytest.fixture
async def other(place: Place) -> AsyncIterator[Driver]:
    """What another process has: the same jobs, through connections of its own."""
    driver = place.open()
    yield driver
    await driver.close()


@asynccontextmanager
async def _place(kind: str, servers: Servers, databases: EmptyDatabases, prefix: str) -> AsyncIterator[Place]:
    if kind == "memory":
        clock = MovableClock()
        driver = MemoryDriver(monotonic=clock.monotonic, now=clock.now)
        yield Place(lambda: driver, None, clock.let_pass)
        return
    match servers.get(kind):
        case RedisServer(kind=server_kind, url=url):
            failures = MemoryFailureStore()
            cost = None if server_kind in redis_cluster_kinds() else redis_commands  # of one server's monitor
            yield Place(
                lambda: RedisDriver(client_of(url), failures, prefix=prefix),
                cost,
                partial(let_pass_in_redis, url, prefix),
            )
            await delete_keys(url, prefix)
        case Databases() as server:
            url = await databases.get(server)
            yield Place(
                lambda: DatabaseDriver(Database(url), Events()), sql_statements, partial(let_pass_in_database, url)
            )
