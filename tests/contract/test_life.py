"""Reaching the store, not reaching it, and letting go of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from core.database.engine import Database
from core.errors import QueueUnavailableError
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.queue.state import Lease
from tests.contract.conftest import Place
from tests.contract.jobs import LONG, QUEUE, VERBS, new_job

LEASE = Lease("0199-a", QUEUE, "token")

CALLS: dict[str, Callable[[Driver], Awaitable[object]]] = {
    "push": lambda driver: driver.push([new_job()]),
    "fetch": lambda driver: driver.fetch([QUEUE], 1, LONG),
    "complete": lambda driver: VERBS["complete"](driver, [LEASE]),
    "retry": lambda driver: VERBS["retry"](driver, [LEASE]),
    "fail": lambda driver: VERBS["fail"](driver, [LEASE]),
    "release": lambda driver: VERBS["release"](driver, [LEASE]),
    "renew": lambda driver: VERBS["renew"](driver, [LEASE]),
    "stage": lambda driver: driver.stage([QUEUE]),
    "rescue": lambda driver: driver.rescue([QUEUE]),
    "queues": lambda driver: driver.queues(),
    "size": lambda driver: driver.size(QUEUE),
    "stats": lambda driver: driver.stats(QUEUE),
    "clear": lambda driver: driver.clear(QUEUE),
    "ping": lambda driver: driver.ping(),
}

NOWHERE: dict[str, Callable[[], Driver]] = {
    "redis": lambda: RedisDriver(Redis.from_url("redis://127.0.0.1:1/0"), MemoryFailureStore()),
    "postgres": lambda: DatabaseDriver(Database("postgresql://postgres@127.0.0.1:1/nowhere"), Events()),
    "mysql": lambda: DatabaseDriver(Database("mysql://root@127.0.0.1:1/nowhere"), Events()),
}


@pytest.fixture(params=NOWHERE)
async def unreachable(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    driver = NOWHERE[request.param]()
    yield driver
    await driver.close()


async def test_a_store_that_is_there_answers(driver: Driver) -> None:
    await driver.ping()


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_not_there_is_named(unreachable: Driver, call: str) -> None:
    with pytest.raises(QueueUnavailableError, match=r"127\.0\.0\.1:1\b") as raised:
        await CALLS[call](unreachable)
    assert raised.value.__cause__ is not None


async def test_a_wake_up_of_a_store_that_is_not_there_waits(unreachable: Driver) -> None:
    wake_up = unreachable.wake_up([QUEUE])
    assert not await wake_up.wait(0.05)
    await wake_up.close()


async def test_closing_twice_is_closing_once(place: Place) -> None:
    driver = place.open()
    await driver.ping()
    await driver.close()
    await driver.close()


async def test_a_driver_that_was_never_used_can_be_closed(place: Place) -> None:
    await place.open().close()


async def test_jobs_outlive_the_driver_that_pushed_them(place: Place, driver: Driver) -> None:
    first = place.open()
    await first.push([new_job()])
    await first.close()
    assert len(await driver.fetch([QUEUE], 1, LONG)) == 1


async def test_the_table_is_the_drivers(place: Place, driver: Driver) -> None:
    assert driver.connection in ("memory", "redis", "database")
    assert await driver.failures.rows() == []
