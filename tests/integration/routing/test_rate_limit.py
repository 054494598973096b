"""RateLimit counted in a real Redis."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from core.errors import UnavailableError
from core.redis_manager import redis_manager
from core.routing.sliding_window import RedisWindow
from tests.servers.redis import ValkeyProcess

WINDOW = 60 * 1_000_000  # microseconds

TAKE = """
import asyncio, sys
from redis.asyncio import Redis
from core.redis_manager import redis_manager
from core.routing.sliding_window import RedisWindow

async def main(url, prefix):
    client = Redis.from_url(url, decode_responses=True)
    redis_manager.bind(client, prefix)
    window = RedisWindow(5, 60)
    waits = await asyncio.gather(*(window.take("key") for _ in range(50)))
    print(waits.count(0))
    await client.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def client(redis_url: str, redis_prefix: str) -> AsyncIterator[Redis]:
    client = Redis.from_pool(BlockingConnectionPool.from_url(redis_url, max_connections=20, decode_responses=True))
    redis_manager.bind(client, redis_prefix)
    yield client
    redis_manager.unbind(client, redis_prefix)
    await client.aclose()


@pytest.fixture
def key(client: Redis) -> str:
    return redis_manager.key("rate-limit:key")


async def _now(client: Redis) -> int:
    seconds, microseconds = await client.time()
    return int(seconds) * 1_000_000 + int(microseconds)


async def test_pitfall_36_five_allowed_means_five_however_many_ask_at_once(client: Redis, key: str) -> None:
    window = RedisWindow(5, 60)
    waits = await asyncio.gather(*(window.take("key") for _ in range(200)))
    assert waits.count(0) == 5
    assert all(0 < wait <= 60 for wait in waits if wait)
    assert await client.llen(key) == 5
    assert 0 < await client.pttl(key) <= 60_000


async def test_pitfall_36_five_allowed_means_five_across_processes(
    client: Redis, redis_url: str, redis_prefix: str
) -> None:
    assert sum(await asyncio.gather(*(_let_in(redis_url, redis_prefix) for _ in range(2)))) == 5


async def _let_in(url: str, prefix: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TAKE, url, prefix, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return int(output)


async def test_the_window_slides_one_place_at_a_time(client: Redis, key: str) -> None:
    now = await _now(client)
    await client.rpush(key, now - WINDOW - 1, now - WINDOW // 2, now)
    window = RedisWindow(3, 60)
    assert await window.take("key") == 0  # the place of the one that has left the window
    assert 29 < await window.take("key") <= 30


async def test_a_clock_set_back_does_not_close_the_limit(client: Redis, key: str) -> None:
    await client.rpush(key, await _now(client) + 3600 * 1_000_000)
    assert await RedisWindow(1, 60).take("key") == 0
    assert await RedisWindow(1, 60).take("key") > 0


async def test_a_redis_that_is_away_is_told_as_such(unused_tcp_port: int) -> None:
    client = Redis(port=unused_tcp_port)
    redis_manager.bind(client, "")
    try:
        with pytest.raises(UnavailableError, match="cannot count for rate limits: Redis"):
            await RedisWindow(1, 60).take("key")
    finally:
        redis_manager.unbind(client, "")
        await client.aclose()


async def test_a_redis_that_gives_no_answer_is_told_as_such(
    restartable_redis: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.redis_client.ANSWER_TIMEOUT", 0.2)
    client = Redis.from_url(restartable_redis.url)
    redis_manager.bind(client, "")
    restartable_redis.freeze()
    try:
        with pytest.raises(
            UnavailableError, match=r"cannot count for rate limits: Redis .* gave no answer within"
        ) as away:
            await asyncio.wait_for(RedisWindow(1, 60).take("key"), 10)
        assert away.value.server == f"Redis at 127.0.0.1:{restartable_redis.port}"
    finally:
        redis_manager.unbind(client, "")
        restartable_redis.thaw()
        await client.aclose()
