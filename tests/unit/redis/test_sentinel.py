"""The end of what asks Sentinels."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

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
