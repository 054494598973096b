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
from redis.asyncio import Redis

from core.database.engine import Database
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.memory import MemoryDriver, MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from tests.contract.cost import redis_commands, sql_statements
from tests.contract.passing_time import MovableClock, let_pass_in_database, let_pass_in_redis
from tests.servers.databases import Databases, query
from tests.servers.kinds import RedisServer, Servers, redis_kinds, sql_kinds
from tests.servers.redis import delete_keys


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
        await query(url, "DELETE FROM jobs", "DELETE FROM failed_jobs")
        return url

    async def drop(self) -> None:
        for server, url in self._urls.items():
            await server.drop(url)


@pytest.fixture(scope="session")
def empty_databases(servers: Servers) -> Iterator[EmptyDatabases]:
    databases = EmptyDatabases()
    yield databases
    asyncio.run(databases.drop())


@pytest.fixture(params=["memory", *redis_kinds(), *sql_kinds()])
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
        case RedisServer(url=url):
            failures = MemoryFailureStore()
            yield Place(
                lambda: RedisDriver(Redis.from_url(url), failures, prefix=prefix),
                redis_commands,
                partial(let_pass_in_redis, url, prefix),
            )
            await delete_keys(url, prefix)
        case Databases() as server:
            url = await databases.get(server)
            yield Place(
                lambda: DatabaseDriver(Database(url), Events()), sql_statements, partial(let_pass_in_database, url)
            )
