"""The master that Sentinels name: when it is another one, all goes on there, and no process has to be restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from config.redis import RedisSettings
from core.errors import UnavailableError
from core.queue.drivers.durability import OnReplicas
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.redis_client import new_redis
from core.redis_manager import RedisManager
from tests.contract.jobs import LONG, QUEUE, eventually, new_job
from tests.integration.redis.traffic import PATIENCE, traffic
from tests.servers.process import free_port
from tests.servers.redis import ValkeyProcess, client_of
from tests.servers.redis_replicas import MASTER, WatchedRedis


@pytest.fixture
def watched() -> Iterator[WatchedRedis]:
    with WatchedRedis() as redis:
        yield redis


@pytest.fixture
async def driver(watched: WatchedRedis) -> AsyncIterator[RedisDriver]:
    async for driver in _driver(watched.url):
        yield driver


@pytest.fixture
async def other(watched: WatchedRedis) -> AsyncIterator[RedisDriver]:
    async for driver in _driver(watched.url):
        yield driver


async def _driver(url: str) -> AsyncIterator[RedisDriver]:
    """What it was told that a job is stored is on a replica, too, and so survives the master."""
    driver = RedisDriver(client_of(url), MemoryFailureStore(), durability=OnReplicas(1))
    yield driver
    await driver.close()


async def _has_moved(watched: WatchedRedis, former: ValkeyProcess) -> None:
    async def probe() -> bool:
        return watched.master is not former

    await eventually(probe, within=PATIENCE)


async def test_work_goes_on_with_the_next_master_and_the_next(
    watched: WatchedRedis, driver: RedisDriver, other: RedisDriver
) -> None:
    async with traffic(driver, other, ["a", "b"]) as running:
        await running.goes_on()
        for _ in range(2):
            former = watched.master
            former.kill()
            await running.goes_on()
            assert watched.master is not former
            former.start()
            await _has_moved_back(watched, former)
        await running.ends()


async def _has_moved_back(watched: WatchedRedis, former: ValkeyProcess) -> None:
    """Until a server that came back follows the master that there is now."""
    client = client_of(former.url)

    async def probe() -> bool:
        try:
            state = await client.info("replication")
        except RedisConnectionError:  # whoever is connected to it when it is told whom to follow is cut off
            return False
        return (state["role"], state.get("master_link_status")) == ("slave", "up")

    await eventually(probe, within=PATIENCE)
    await client.aclose()


async def test_a_master_that_stands_still_is_left(watched: WatchedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.drivers.redis.ANSWER_TIMEOUT", 2)
    driver = RedisDriver(client_of(watched.url), MemoryFailureStore())
    await driver.push([new_job()])
    former = watched.master
    former.freeze()
    await _has_moved(watched, former)
    await eventually(lambda: _pushes(driver), within=PATIENCE)
    former.thaw()
    await driver.close()


async def _pushes(driver: RedisDriver) -> bool:
    try:
        await driver.push([new_job()])
    except UnavailableError:
        return False
    return True


async def test_the_wake_up_follows(watched: WatchedRedis, driver: RedisDriver, other: RedisDriver) -> None:
    wake_up = driver.wake_up([QUEUE])
    assert await wake_up.wait(PATIENCE)  # it listens
    former = watched.master
    former.kill()
    await _has_moved(watched, former)
    assert await wake_up.wait(PATIENCE)  # it listens again
    while await wake_up.wait(0.1):
        pass
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await eventually(lambda: _pushes(other), within=PATIENCE)
    assert await waiting
    await wake_up.close()


async def test_the_door_for_users_code_follows(watched: WatchedRedis) -> None:
    few = RedisSettings.model_validate({"url": watched.url, "max_connections": 4})
    manager, client = RedisManager(), new_redis(few, decode_responses=True)
    manager.bind(client, "")
    assert sorted(await asyncio.gather(*(manager.incr("count") for _ in range(100)))) == list(range(1, 101))
    former = watched.master
    former.kill()
    await _has_moved(watched, former)

    async def probe() -> bool:
        try:
            await manager.set("b", "2")
        except UnavailableError:
            return False
        return True

    await eventually(probe, within=PATIENCE)
    assert await manager.get("b") == "2"
    await client.aclose()


async def test_one_sentinel_that_answers_is_enough(watched: WatchedRedis, driver: RedisDriver) -> None:
    silent, gone, _ = watched.sentinels
    silent.freeze()
    gone.kill()
    await driver.ping()
    silent.thaw()


async def test_sentinels_that_are_not_there_are_named() -> None:
    port = free_port()
    driver = RedisDriver(client_of(f"redis+sentinel://127.0.0.1:{port}/{MASTER}"), MemoryFailureStore())
    with pytest.raises(
        UnavailableError, match=rf"Redis at {MASTER} \(by Sentinel at 127\.0\.0\.1:{port}\) gave no answer"
    ):
        await driver.push([new_job()])
    await driver.close()


async def test_a_master_that_the_sentinels_do_not_know_is_named(watched: WatchedRedis) -> None:
    driver = RedisDriver(client_of(watched.url.replace(MASTER, "mails")), MemoryFailureStore())
    with pytest.raises(UnavailableError, match="No master found for 'mails'"):
        await driver.ping()
    await driver.close()
