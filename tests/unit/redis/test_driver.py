"""The end of a driver."""

from __future__ import annotations

import asyncio

import pytest

from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from tests.servers.redis import client_of


@pytest.mark.parametrize("error", [OSError("refused"), asyncio.CancelledError()], ids=["raises", "is cancelled"])
async def test_each_part_is_closed_whatever_comes_of_closing_another(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    client = client_of("redis://a")
    driver, closed = RedisDriver(client, MemoryFailureStore()), []
    parts = [
        (driver._unwritten, "close"),
        (driver._writes, "close"),
        (driver._connection, "close"),
        (client, "aclose"),
    ]
    for part, verb in parts:

        async def close(part: object = part) -> None:
            closed.append(part)
            raise error

        monkeypatch.setattr(part, verb, close)
    with pytest.raises(type(error)):
        await driver.close()
    assert closed == [part for part, _ in parts]
