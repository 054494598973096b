"""Writes that count once the server has confirmed that they are on its disk, or on its replicas.

WAIT and WAITAOF speak of what was written over their own connection, and hold up what is asked over it meanwhile. So
such writes have a connection of their own, and are confirmed exactly there: another one may lead to another server by
then, which knows nothing of them. A write that is repeated, as its answer was lost, changes nothing, and the server
would have nothing to wait for although the first may be in its memory only. So something is written each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from core.errors import QueueUnavailableError
from core.queue.drivers.cluster_connection import ClusterConnection, connection_to, first_key
from core.queue.drivers.durability import Durability
from core.queue.drivers.durable_servers import require
from core.queue.drivers.pipelined_connection import Command, PipelinedConnection, Replies
from core.queue.drivers.scripts import Scripts
from core.redis_client import ANSWER_TIMEOUT, FAULTS, RedisClient, server_of

CONFIRMED_WITHIN = 0.8 * ANSWER_TIMEOUT
"""Seconds. Less than the silence that ends a connection: the server is to say what is missing."""


class ConfirmedWrites:
    """Runs scripts, and waits for what QUEUE_REDIS_DURABILITY asks for; with `memory`, for nothing."""

    def __init__(self, client: RedisClient, scripts: Scripts, durability: Durability | None) -> None:
        self._client = client
        self._scripts = scripts
        self._durability = durability
        self._connection = connection_to(client, ANSWER_TIMEOUT)
        self._is_able = durability is None
        self._unconfirmed = nullcontext(scripts)

    def confirmed(self) -> AbstractAsyncContextManager[Scripts]:
        """Yields the scripts to write with. The block is left once what they wrote is confirmed.

        Raises QueueUnavailableError where that is not so in time: a repetition of the writes is safe, and waits anew.
        Raises SettingError, before anything is written, where the server cannot do it.
        """
        return self._unconfirmed if self._durability is None else self._confirmed(self._durability)

    async def require(self) -> None:
        """See `durable_servers.require`; asked once, and again whenever a server was lost."""
        if not self._is_able and self._durability is not None:
            await require(self._client, self._connection, self._durability)
            self._is_able = True

    async def close(self) -> None:
        await self._connection.close()

    @asynccontextmanager
    async def _confirmed(self, durability: Durability) -> AsyncIterator[Scripts]:
        await self.require()
        written = _Written(self._connection)
        try:
            yield self._scripts.over(written)
        except QueueUnavailableError:
            self._is_able = False  # the next one may be another server
            raise
        try:
            lacks = await written.lacks(durability)
        except FAULTS as error:
            self._is_able = False
            raise self._not_confirmed(durability, str(error)) from error
        if lacks:
            lack = f"after {CONFIRMED_WITHIN:g} s, {' and '.join(sorted(lacks))}"
            raise self._not_confirmed(durability, lack)

    def _not_confirmed(self, durability: Durability, reason: str) -> QueueUnavailableError:
        server = server_of(self._client)
        return QueueUnavailableError(
            f"{server} took the jobs, and has not confirmed what QUEUE_REDIS_DURABILITY={durability} asks for: "
            f"{reason}. {durability.remedy}",
            server=server,
        )


class _Written:
    """Remembers over which connections scripts wrote, and a key there."""

    def __init__(self, connection: PipelinedConnection | ClusterConnection) -> None:
        self._connection = connection
        self._keys: dict[Replies, str] = {}

    async def ask(self, *command: str | bytes | int) -> Any:
        reply, replies = await self._connection.ask_at(*command)
        if command[0] != "SADD":  # the names of the queues, which are for listings
            self._keys[replies] = first_key(command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def masters(self) -> list[PipelinedConnection]:
        return await self._connection.masters()

    async def ask_all(self, *commands: Command) -> list[Any]:
        return await asyncio.gather(*(self.ask(*command) for command in commands), return_exceptions=True)

    async def lacks(self, durability: Durability) -> set[str]:
        """What is missing anywhere."""
        replies = await asyncio.gather(
            *(_confirmation(replies, key, durability) for replies, key in self._keys.items())
        )
        return {lack for reply in replies if (lack := durability.lack(reply))}


async def _confirmation(replies: Replies, key: str, durability: Durability) -> Any:
    """Write something beside a key, and wait for that, and so for all that was written over the connection before."""
    touch = ("SET", f"{key}:confirmed", "", "PX", 1000)
    touched, reply = [await each for each in (replies.to(touch), replies.to(durability.wait(CONFIRMED_WITHIN)))]
    for each in (touched, reply):
        if isinstance(each, Exception):
            raise each
    return reply
