"""The end of a client of a cluster."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio.cluster import NodesManager

from core.redis.cluster import Cluster
from tests.servers.redis import client_of


@pytest.mark.parametrize("error", [OSError("refused"), asyncio.CancelledError()], ids=["raises", "is cancelled"])
async def test_each_part_is_closed_whatever_comes_of_closing_another(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    client = client_of("redis+cluster://a,b")
    assert isinstance(client, Cluster)
    closed = []

    async def aclose(_: NodesManager, attr: str = "nodes_cache") -> None:
        closed.append(attr)
        raise error

    monkeypatch.setattr(NodesManager, "aclose", aclose)
    leaving = asyncio.create_task(asyncio.sleep(0))
    client.nodes_manager._background_tasks.add(leaving)
    with pytest.raises(type(error)):
        await client.aclose()
    assert closed == ["nodes_cache", "startup_nodes"]
    assert leaving.done()
