"""`redis_manager` against real servers: plain words, errors raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from config.redis import RedisSettings
from core.errors import NotRunningError, UnavailableError
from core.redis_client import new_redis
from core.redis_manager import RedisManager
from core.redis_manager import redis_manager as door
from tests.servers.redis import ValkeyProcess

Key = Callable[[str], str]


@pytest.fixture
async def redis(redis_url: str, redis_prefix: str) -> AsyncIterator[RedisManager]:
    manager = RedisManager()
    client = new_redis(RedisSettings.model_validate({"url": redis_url}), decode_responses=True)
    manager.bind(client, redis_prefix)
    yield manager
    await client.aclose()


@pytest.fixture
def key(redis: RedisManager) -> str:
    """A key of this test's own."""
    return redis.key("key")


async def test_what_was_set_is_got(redis: RedisManager, key: str) -> None:
    assert await redis.get(key) is None
    await redis.set(key, "é\n\x00")
    assert await redis.get(key) == "é\n\x00"


@pytest.mark.parametrize(
    ("value", "text"), [("", ""), (7, "7"), (0.5, "0.5"), (b"abc", "abc"), ("x" * 100_000, "x" * 100_000)]
)
async def test_values_are_text(redis: RedisManager, key: str, value: Any, text: str) -> None:
    await redis.set(key, value)
    assert await redis.get(key) == text


async def test_keys_are_used_as_they_are_given(redis: RedisManager, redis_prefix: str) -> None:
    assert redis.key("a") == f"{redis_prefix}a"
    await redis.set(f"{redis_prefix}own", "1")
    assert await redis.client().get(f"{redis_prefix}own") == "1"


async def test_incr_counts_from_nothing(redis: RedisManager, key: str) -> None:
    assert [await redis.incr(key), await redis.incr(key, 5), await redis.incr(key, -2)] == [1, 6, 4]


async def test_incr_is_exact_among_many(redis: RedisManager, key: str) -> None:
    counts = await asyncio.gather(*(redis.incr(key) for _ in range(100)))
    assert sorted(counts) == list(range(1, 101))


async def test_delete_tells_how_many_there_were(redis: RedisManager, key: str) -> None:
    await redis.set(key, "1")
    assert await redis.delete(key, f"{key}:other") == 1
    assert await redis.delete(key) == 0
    assert await redis.delete() == 0
    assert await redis.get(key) is None


async def test_exists(redis: RedisManager, key: str) -> None:
    assert await redis.exists(key) is False
    await redis.set(key, "")
    assert await redis.exists(key) is True


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_has_no_end_unless_it_is_given_one(redis: RedisManager, key: str) -> None:
    await redis.set(key, "1")
    assert await redis.ttl(key) is None
    assert await redis.expire(key, 60) is True
    left = await redis.ttl(key)
    assert left is not None
    assert 0 < left <= 60


async def test_a_key_set_with_an_end_is_gone_after_it(redis: RedisManager, key: str) -> None:
    await redis.set(key, "1", ttl=0.001)
    while await redis.exists(key):
        pass  # it is the server's clock that we wait for
    with pytest.raises(KeyError):
        await redis.ttl(key)


async def test_an_end_may_be_a_part_of_a_second(redis: RedisManager, key: str) -> None:
    await redis.set(key, "1", ttl=0.9)
    left = await redis.ttl(key)
    assert left is not None
    assert left <= 0.9


async def test_setting_again_takes_the_end_away(redis: RedisManager, key: str) -> None:
    await redis.set(key, "1", ttl=60)
    await redis.set(key, "2")
    assert await redis.ttl(key) is None


async def test_a_key_that_is_not_there_has_no_ttl_and_cannot_expire(redis: RedisManager, key: str) -> None:
    with pytest.raises(KeyError, match=key):
        await redis.ttl(key)
    assert await redis.expire(key, 60) is False


# ── hashes and JSON ──────────────────────────────────────────────────────────────────────────────────────


async def test_fields_of_a_hash(redis: RedisManager, key: str) -> None:
    assert await redis.hget(key, "a") is None
    assert await redis.hset(key, "a", 1) is True
    assert await redis.hset(key, "a", "two") is False
    assert await redis.hget(key, "a") == "two"
    assert await redis.hget(key, "b") is None


@pytest.mark.parametrize("value", [None, True, 7, 0.5, "é", [], {"a": [1, {"b": None}]}])
async def test_json_comes_back(redis: RedisManager, key: str, value: Any) -> None:
    await redis.set_json(key, value, ttl=60)
    assert await redis.get_json(key) == value
    assert await redis.ttl(key) is not None


async def test_json_that_is_not_there_is_none(redis: RedisManager, key: str) -> None:
    assert await redis.get_json(key) is None


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_errors_of_the_server_are_raised(redis: RedisManager, key: str) -> None:
    await redis.set(key, "text")
    with pytest.raises(ResponseError, match="not an integer"):
        await redis.incr(key)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await redis.hget(key, "a")
    with pytest.raises(ResponseError, match="expire"):
        await redis.set(key, "1", ttl=0)


async def test_text_that_is_no_json_is_an_error(redis: RedisManager, key: str) -> None:
    await redis.set(key, "{")
    with pytest.raises(msgspec.DecodeError):
        await redis.get_json(key)


async def test_a_value_that_is_no_json_is_an_error_and_changes_nothing(redis: RedisManager, key: str) -> None:
    await redis.set_json(key, 1)
    with pytest.raises(TypeError):
        await redis.set_json(key, object())
    assert await redis.get_json(key) == 1


USES: dict[str, Callable[[RedisManager], Awaitable[Any]]] = {
    "get": lambda each: each.get("a"),
    "set": lambda each: each.set("a", "b"),
    "incr": lambda each: each.incr("a"),
    "expire": lambda each: each.expire("a", 1),
    "delete": lambda each: each.delete("a"),
    "exists": lambda each: each.exists("a"),
    "ttl": lambda each: each.ttl("a"),
    "hget": lambda each: each.hget("a", "b"),
    "hset": lambda each: each.hset("a", "b", "c"),
    "get_json": lambda each: each.get_json("a"),
    "set_json": lambda each: each.set_json("a", 1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_server_that_is_not_there_is_unavailable(use: Callable[[RedisManager], Awaitable[Any]]) -> None:
    """Framework and users' code wait for it alike: an outage uses up no tries of a handler."""
    manager = RedisManager()
    client = new_redis(RedisSettings.model_validate({"host": "127.0.0.1", "port": 1}), decode_responses=True)
    manager.bind(client, "")
    with pytest.raises(UnavailableError, match=r"Redis at 127\.0\.0\.1:1 gave no answer") as unavailable:
        await use(manager)
    assert "Start it, or correct REDIS_URL" in str(unavailable.value)
    assert isinstance(unavailable.value.__cause__, RedisConnectionError)
    await client.aclose()


async def test_a_server_that_gives_no_answer_is_unavailable(
    restartable_redis: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.redis_client.ANSWER_TIMEOUT", 0.2)
    manager = RedisManager()
    client = new_redis(RedisSettings.model_validate({"url": restartable_redis.url}), decode_responses=True)
    manager.bind(client, "")
    await manager.set("a", "1")
    restartable_redis.freeze()
    with pytest.raises(UnavailableError, match=r"gave no answer within 0\.2 s"):
        await asyncio.wait_for(manager.get("a"), 10)
    restartable_redis.thaw()
    assert await manager.get("a") == "1"
    await client.aclose()


async def test_a_server_that_can_take_nothing_for_now_is_unavailable(restartable_redis: ValkeyProcess) -> None:
    manager = RedisManager()
    client = new_redis(RedisSettings.model_validate({"url": restartable_redis.url}), decode_responses=True)
    manager.bind(client, "")
    await client.config_set("maxmemory", 1)
    with pytest.raises(UnavailableError, match="used memory"):
        await manager.set("a", "1")
    await client.aclose()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_without_a_redis_every_word_says_what_to_do(use: Callable[[RedisManager], Awaitable[Any]]) -> None:
    with pytest.raises(NotRunningError, match=r"set REDIS_URL, and use it inside a controller, a job, or"):
        await use(RedisManager())


async def test_the_door_is_open_while_it_is_bound(redis: RedisManager, key: str) -> None:
    door.bind(None, "outer:")
    door.bind(redis.client(), "p:")
    assert (door.is_configured, door.key("a")) == (True, "p:a")
    await door.set(key, "1")
    door.unbind(redis.client(), "p:")
    assert (door.is_configured, door.key("a"), await redis.get(key)) == (False, "outer:a", "1")
    with pytest.raises(NotRunningError):
        door.client()
    door.unbind(None, "outer:")
