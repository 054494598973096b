"""Redis' channel: PUBLISH and SUBSCRIBE, one channel per queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio.client import PubSub
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.clock import Backoff
from core.redis_client import FAULTS, RedisClient, subscriber
from core.tasks import end_tasks

_log = logging.getLogger("routemq.queue.redis")

CHECK = 30.0
"""Seconds of silence after which the listener makes sure that its connection is alive."""
ANSWER = 10.0
"""Seconds that the answer to that may take."""


class RedisWakeUp:
    """Listens on the queues' channels. Its connection is made anew whenever it is lost."""

    def __init__(self, client: RedisClient, channels: Sequence[str]) -> None:
        self._client = client
        self._channels = channels
        self._pushed = asyncio.Event()
        self._task = asyncio.create_task(self._listen(), name="redis-wake-up")

    async def wait(self, timeout: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._pushed.wait()
        woken = self._pushed.is_set()
        self._pushed.clear()
        return woken

    async def close(self) -> None:
        await end_tasks(self._task)

    async def _listen(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                await self._listen_once(backoff)
            except FAULTS as error:
                _log.debug("lost the wake-up connection: %s", error)
            await asyncio.sleep(backoff.next())

    async def _listen_once(self, backoff: Backoff) -> None:
        async with asyncio.timeout(ANSWER):
            listening = await subscriber(self._client)
        async with listening:
            async with asyncio.timeout(ANSWER):
                await listening.subscribe(*self._channels)
            while True:
                kind = await _next_kind(listening)
                if kind != "pong":
                    # A confirmed subscription wakes as well: something may have come before it stood.
                    backoff.reset()
                    self._pushed.set()


async def _next_kind(listening: PubSub) -> str:
    """The kind of the next message. A peer that is gone without a word is found out by a ping it does not answer."""
    message = await listening.get_message(timeout=CHECK)
    if message is None:
        await listening.ping()
        message = await listening.get_message(timeout=ANSWER)
    if message is None:
        raise RedisTimeoutError("no answer to a ping")
    return str(message["type"])
