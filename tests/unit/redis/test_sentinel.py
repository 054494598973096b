"""What asks Sentinels: its end, and those who are none."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError

from core.redis.sentinel import MasterPool
from tests.servers.redis import client_of


@pytest.mark.parametrize("error", [OSError("refused"), asyncio.CancelledError()], ids=["raises", "is cancelled"])
async def test_each_part_is_closed_whatever_comes_of_closing_another(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    client = client_of("redis+sentinel://a,b,c/jobs")
    assert isinstance(client, Redis) and isinstance(client.connection_pool, MasterPool)
    pool, closed = client.connection_pool, []
    sentinels = [each.connection_pool for each in pool.sentinels._sentinels]
    for each in (pool, *sentinels):

        async def disconnect(each: object = each) -> None:
            closed.append(each)
            raise error

        monkeypatch.setattr(each, "disconnect", disconnect)
    with pytest.raises(type(error)):
        await client.aclose()
    assert len(closed) == 4 and {*closed} == {pool, *sentinels}


async def test_a_server_that_is_no_sentinel_is_named(redis_url: str) -> None:
    host = redis_url.removeprefix("redis://").partition("/")[0]
    async with client_of(f"redis+sentinel://{host}/jobs") as client:
        with pytest.raises(MasterNotFoundError, match=r"No master found for 'jobs'; 127\.0\.0\.1:\d+: unknown command"):
            await client.ping()
