"""One connection to Redis for many callers: each command is written at once, and waits for no other's answer.

redis-py makes the connection: it signs in, selects the database, and asks Sentinel for the master. From then on its
transport is read and written here. redis-py's own way to ask (a connection out of a pool, measured, tried again) takes
90 µs of CPU for each command, and this takes 15.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import hiredis
from redis._parsers import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.queue.drivers.lifetime import BY_US, Lifetime
from core.redis_client import ClosedError, is_read_only

Command: TypeAlias = Sequence[str | bytes | int]

_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # declared for one word only
_QUIET = 1.0
"""Seconds."""
_MORE = object()
"""What the parser returns where a reply is not complete yet."""


class Pool(Protocol):
    """Where a connection comes from: one of redis-py's pools."""

    async def get_connection(self) -> AbstractConnection: ...
    async def release(self, connection: AbstractConnection, /) -> None: ...


class PipelinedConnection:
    """Connects when it is first asked, and anew whenever the connection is lost, until it is closed."""

    def __init__(self, pool: Pool, timeout: float) -> None:
        """`timeout`: seconds without a word from a server that owes answers, after which it is taken to be gone."""
        self._pool = pool
        self._timeout = timeout
        self._lifetime = Lifetime(timeout)
        self._making = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._replies: Replies | None = None

    async def ask(self, *command: str | bytes | int) -> Any:
        """The reply to a command. Raises RedisError: of the reply, or as the connection is lost, silent or closed."""
        reply = await (await self.open()).to(command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_all(self, *commands: Command) -> list[Any]:
        """The replies to commands that are written together. One that is an error is returned as it is."""
        replies = await self.open()
        return [await reply for reply in [replies.to(command) for command in commands]]

    async def ask_at(self, *command: str | bytes | int) -> tuple[Any, Replies]:
        """The reply to a command, an error as it is, and the connection over which it came: for whoever has more to
        ask of that one alone."""
        replies = await self.open()
        return await replies.to(command), replies

    async def masters(self) -> list[PipelinedConnection]:
        """A connection to each server that takes writes: this one."""
        return [self]

    async def close(self, reason: str = BY_US) -> None:
        """Give the connection back, for good. Whoever waits for an answer, or for a connection, hears the reason."""
        try:
            await self._lifetime.end(reason)
        finally:
            if self._replies is not None:
                self._replies.end(ClosedError(reason))
            await self._give_back()

    async def open(self) -> Replies:
        """The connection as it is now."""
        replies = self._replies
        if replies is not None and replies.is_quiet:
            # Its end may have come unseen: the loop stands still between the jobs of a child process.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if replies is not None and not replies.is_lost:
            return replies
        return await self._lifetime.limit(self._reconnected, "no connection")

    async def _reconnected(self) -> Replies:
        async with self._making:
            if self._replies is None or self._replies.is_lost:
                self._replies = await self._connect()
            return self._replies

    async def _connect(self) -> Replies:
        await self._give_back()
        self._connection = await self._pool.get_connection()
        try:
            self._lifetime.require()  # whoever closed this may have been cancelled, and not have waited for us
        except ClosedError:
            await self._give_back()
            raise
        return Replies(self._connection, self._timeout)

    async def _give_back(self) -> None:
        connection, self._connection, self._replies = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


class Replies(asyncio.Protocol):
    """Takes over the transport of a connection, and hands each reply to whoever asked for it, in their order."""

    def __init__(self, connection: AbstractConnection, timeout: float) -> None:
        self.is_lost = False
        self._timeout = timeout
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_MORE
        )
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        writer: Any = connection._writer  # noqa: SLF001  nothing public leads to its transport
        self._transport: asyncio.Transport = writer.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was heard for a while, and nothing is waited for."""
        return not self._waiting and self._loop.time() - self._heard > _QUIET

    def to(self, command: Command) -> asyncio.Future[Any]:
        """The reply to a command that is written now; an error is returned and not raised."""
        packed = _pack(tuple(command))  # first, as it may raise
        reply = self._loop.create_future()
        if self.is_lost:
            reply.set_result(RedisConnectionError("the connection was lost"))
            return reply
        if not self._waiting:
            self._heard = self._loop.time()
        self._waiting.append(reply)
        self._transport.write(packed)  # whatever its buffer holds: each caller waits for its answer, none writes on
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)
        return reply

    def end(self, error: Exception) -> None:
        """Take no command any more. Whoever waits for a reply gets `error` instead."""
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.done():
                asked.set_result(error)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not _MORE:
                self._hand_out(reply)
        except (InvalidResponse, IndexError) as error:
            self._lose(RedisConnectionError(f"the server does not speak Redis' protocol: {error}"))

    def _hand_out(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            return  # of a maintenance, for instance: nobody has asked for it
        asked = self._waiting.popleft()
        if not asked.done():  # done where its caller was cancelled
            asked.set_result(reply)
        if is_read_only(reply):  # it was the master; a new connection finds the one that is now
            self._lose(RedisConnectionError("the server is no master any longer"))

    def eof_received(self) -> None:
        self._lose(RedisConnectionError("the connection was closed by the server"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)  # who closes the connection waits for its word
        self._lose(RedisConnectionError(f"the connection was closed{f': {exc}' if exc else ''}"))

    def _look(self) -> None:
        """Whether the server is still there, as long as it owes an answer."""
        self._watch = None
        if not self._waiting:
            return
        rest = self._heard + self._timeout - self._loop.time()
        if rest > 0:
            self._watch = self._loop.call_later(rest, self._look)
        else:
            self._lose(RedisTimeoutError(f"no answer within {self._timeout:g} s"))

    def _lose(self, error: Exception) -> None:
        self._transport.abort()
        self.end(error)
