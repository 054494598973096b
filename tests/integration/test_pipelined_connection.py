"""Many callers on one connection to Redis: each gets its own answer, whatever happens to others and to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.queue.drivers.cluster_connection import connection_to
from core.queue.drivers.pipelined_connection import PipelinedConnection, Pool
from tests.chaos.proxy import Proxy
from tests.servers.redis import ValkeyProcess, client_of
from tests.servers.resp import read_command

LONG, SHORT = 30.0, 2.0
CLOSED = "closed by this process"


@asynccontextmanager
async def connected_to(url: str, timeout: float = LONG) -> AsyncIterator[PipelinedConnection]:
    async with Redis.from_url(url) as client:
        connection = PipelinedConnection(client.connection_pool, timeout)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def server_that(answers: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """The URL of a server that greets as Redis does, and then answers as it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await read_command(reader):
            writer.write(b"+OK\r\n" if words[0] in (b"HELLO", b"CLIENT") else answers(words[0]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield _url(server.sockets[0].getsockname()[1])


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


class SilentServer:
    """Takes connections, and does not greet."""

    def __init__(self) -> None:
        self.tried = 0
        self.connected = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tried += 1
        self.connected.set()
        await reader.read()
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its URL."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield _url(server.sockets[0].getsockname()[1])


async def test_callers_at_the_same_time_share_a_connection_and_get_their_own_answers(redis_url: str) -> None:
    async with connected_to(redis_url) as connection:
        ids = await asyncio.gather(*(connection.ask("CLIENT", "ID") for _ in range(20)))
        assert len(set(ids)) == 1
        echoed = await asyncio.gather(*(connection.ask("ECHO", str(n)) for n in range(200)))
        assert echoed == [str(n).encode() for n in range(200)]


async def test_a_command_is_sent_while_others_wait_for_their_answers() -> None:
    answers = iter([b"", b"+first\r\n+second\r\n"])
    async with server_that(lambda word: next(answers)) as url, connected_to(url) as connection:
        replies = await asyncio.gather(*(connection.ask("GET", key) for key in "12"))
        assert replies == [b"first", b"second"]


async def test_an_error_reaches_the_caller_whose_command_it_is_about(redis_url: str) -> None:
    async with connected_to(redis_url) as connection:
        commands = [("ECHO", "before"), ("NO-SUCH-COMMAND",), ("ECHO", "after")]
        told = await asyncio.gather(*(connection.ask(*command) for command in commands), return_exceptions=True)
        assert told[::2] == [b"before", b"after"]
        assert isinstance(told[1], ResponseError)
        replies = await connection.ask_all(("NO-SUCH-COMMAND",), ("ECHO", "second"))
        assert isinstance(replies[0], ResponseError)
        assert replies[1] == b"second"


async def test_the_answer_of_a_caller_that_was_cancelled_goes_to_nobody(redis_url: str, redis_prefix: str) -> None:
    async with connected_to(redis_url) as connection, Redis.from_url(redis_url) as client:
        gone, _ = await _blocked(connection, client, f"{redis_prefix}gone")
        gone.cancel()
        follows = asyncio.create_task(connection.ask("ECHO", "mine"))
        await client.rpush(f"{redis_prefix}gone", "x")
        assert await follows == b"mine"


async def test_a_connection_that_was_lost_is_made_anew_for_the_next_caller(redis_url: str, redis_prefix: str) -> None:
    async with connected_to(redis_url) as connection, Redis.from_url(redis_url) as client:
        waits, own_id = await _blocked(connection, client, f"{redis_prefix}lost")
        await client.client_kill_filter(_id=str(own_id))
        with pytest.raises(RedisConnectionError, match="closed"):
            await waits
        assert await connection.ask("ECHO", "again") == b"again"


async def test_a_connection_that_was_lost_while_the_loop_stood_still_is_not_used(redis_url: str) -> None:
    async with connected_to(redis_url) as connection:
        own_id = await connection.ask("CLIENT", "ID")
        assert connection._replies is not None
        connection._replies._heard -= 60
        with BlockingRedis.from_url(redis_url) as blocking:  # no turn of the loop sees the end of it
            blocking.client_kill_filter(_id=str(own_id))
            while any(int(each["id"]) == own_id for each in blocking.client_list()):
                pass
        assert await connection.ask("CLIENT", "ID") != own_id


async def test_a_pooled_connection_that_the_server_has_closed_is_not_used(redis_url: str) -> None:
    client = client_of(redis_url)
    async with client:
        own_id = await client.client_id()
        with BlockingRedis.from_url(redis_url) as blocking:
            blocking.client_kill_filter(_id=str(own_id))
        await asyncio.sleep(0.01)  # the loop sees that it is closed; the pool has not looked
        connection = connection_to(client, LONG)
        assert await connection.ask("CLIENT", "ID") != own_id
        await connection.close()


@pytest.mark.parametrize("word", ["\udcff", None], ids=["lone surrogate", "None"])
async def test_a_command_that_cannot_be_written_shifts_no_answer(redis_url: str, word: Any) -> None:
    async with connected_to(redis_url) as connection:
        assert await connection.ask("PING") == b"PONG"
        with pytest.raises((UnicodeEncodeError, TypeError)):
            await connection.ask("ECHO", word)
        assert await connection.ask("ECHO", "mine") == b"mine"


async def test_a_server_that_came_back_is_found_again(restartable_redis: ValkeyProcess) -> None:
    async with connected_to(restartable_redis.url) as connection:
        assert await connection.ask("PING") == b"PONG"
        restartable_redis.kill()
        with pytest.raises(RedisConnectionError):
            await connection.ask("PING")
        restartable_redis.start()
        assert await connection.ask("PING") == b"PONG"


async def test_a_server_that_says_nothing_is_given_up_and_left(redis_url: str) -> None:
    host, port = redis_url.removeprefix("redis://").split("/")[0].split(":")
    with Proxy(host, int(port)) as proxy:
        async with connected_to(_url(proxy.port), SHORT) as connection:
            assert await connection.ask("PING") == b"PONG"
            proxy.forget()
            silent = await asyncio.gather(*(connection.ask("PING") for _ in range(3)), return_exceptions=True)
            assert [type(each) for each in silent] == [RedisTimeoutError] * 3
            assert await connection.ask("PING") == b"PONG"


async def test_a_server_that_does_not_greet_is_given_up_by_all_who_wait_for_it_at_once() -> None:
    server = SilentServer()
    async with server.running() as url, connected_to(url, SHORT) as connection:
        silent = await asyncio.gather(*(connection.ask("PING") for _ in range(5)), return_exceptions=True)
        assert [type(each) for each in silent] == [RedisTimeoutError] * 5
        assert server.tried < 3


@pytest.mark.parametrize(
    "refusal",
    [
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write\r\n",
    ],
    ids=["of a command", "of a script, Redis 6"],
)
async def test_one_that_is_no_master_any_longer_is_left(refusal: bytes) -> None:
    """A client of Sentinel then asks anew where the master is."""
    connections = 0

    def answers(word: bytes) -> bytes:
        nonlocal connections
        connections += word == b"SET"
        return refusal if connections == 1 else b"+OK\r\n"

    async with server_that(answers) as url, connected_to(url) as connection:
        with pytest.raises(ResponseError):
            await connection.ask("SET", "a", "b")
        lost = connection._replies
        assert await connection.ask("SET", "a", "b") == b"OK"
        assert connection._replies is not lost


async def test_what_the_server_says_unasked_is_no_answer() -> None:
    said = b">2\r\n$7\r\nmessage\r\n$5\r\nhello\r\n"
    async with server_that(lambda word: said + b"+PONG\r\n") as url, connected_to(url) as connection:
        assert await connection.ask("PING") == b"PONG"


@pytest.mark.parametrize("garbage", [b"what?\r\n", b"+PONG\r\n+PONG\r\n"], ids=["no reply", "a reply too many"])
async def test_a_server_that_speaks_otherwise_is_left(garbage: bytes) -> None:
    answers = iter([b"+PONG\r\n", garbage])
    async with server_that(lambda word: next(answers, b"+PONG\r\n")) as url, connected_to(url) as connection:
        assert await connection.ask("PING") == b"PONG"
        first = connection._replies
        assert first is not None
        await asyncio.gather(connection.ask("PING"), return_exceptions=True)
        assert first.is_lost
        assert await connection.ask("PING") == b"PONG"


async def test_closing_ends_the_wait_of_those_that_still_wait(redis_url: str, redis_prefix: str) -> None:
    async with connected_to(redis_url) as connection, Redis.from_url(redis_url) as client:
        waits, _ = await _blocked(connection, client, f"{redis_prefix}closing")
        await connection.close()
        with pytest.raises(RedisConnectionError, match=CLOSED):
            await waits


async def test_closing_ends_the_wait_of_those_that_wait_for_a_connection() -> None:
    server = SilentServer()
    async with server.running() as url, connected_to(url) as connection:
        waits = [asyncio.create_task(connection.ask("PING")) for _ in range(3)]
        await server.connected.wait()
        async with asyncio.timeout(SHORT):
            await asyncio.gather(connection.close(), connection.close())
            for each in waits:
                with pytest.raises(RedisConnectionError, match=CLOSED):
                    await each
        assert server.tried == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.ask("PING"),
        lambda connection: connection.ask_all(("PING",), ("PING",)),
        lambda connection: connection.ask_at("PING"),
        lambda connection: connection.open(),
    ],
    ids=["ask", "ask_all", "ask_at", "open"],
)
@pytest.mark.parametrize("asked_before", [True, False])
async def test_a_closed_one_opens_nothing(
    redis_url: str, use: Callable[[PipelinedConnection], Awaitable[Any]], *, asked_before: bool
) -> None:
    async with Redis.from_url(redis_url) as client:
        pool = CountingPool(client.connection_pool)
        connection = PipelinedConnection(pool, LONG)
        if asked_before:
            assert await connection.ask("PING") == b"PONG"
        for _ in range(2):
            await connection.close()
            with pytest.raises(RedisConnectionError, match=CLOSED):
                await use(connection)
        assert pool.given == asked_before


async def test_a_connection_that_is_there_after_closing_was_cancelled_is_given_back(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        pool = StubbornPool(client.connection_pool)
        connection = PipelinedConnection(pool, LONG)
        waits = asyncio.create_task(connection.ask("PING"))
        await pool.asked.wait()
        closing = asyncio.create_task(connection.close())
        await pool.cancelled.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        pool.goes_on.set()
        with pytest.raises(RedisConnectionError, match=CLOSED):
            await waits
        assert (pool.given, pool.released) == (1, 1)
        assert pool.connected == []


class CountingPool:
    """Counts the connections that a pool gives, and takes back."""

    def __init__(self, pool: Pool) -> None:
        self.given = 0
        self.released = 0
        self._pool = pool

    async def get_connection(self) -> AbstractConnection:
        self.given += 1
        return await self._pool.get_connection()

    async def release(self, connection: AbstractConnection, /) -> None:
        self.released += 1
        await self._pool.release(connection)


class StubbornPool(CountingPool):
    """Swallows every cancellation, as asyncio.wait_for of Python 3.11 may swallow one, and `goes_on`."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.goes_on = asyncio.Event()
        self._given: list[AbstractConnection] = []

    @property
    def connected(self) -> list[AbstractConnection]:
        return [each for each in self._given if each.is_connected]

    async def get_connection(self) -> AbstractConnection:
        self.asked.set()
        while not self.goes_on.is_set():
            try:
                await self.goes_on.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
        self._given.append(await super().get_connection())
        return self._given[-1]


async def _blocked(connection: PipelinedConnection, client: Redis, key: str) -> tuple[asyncio.Task[object], int]:
    """A caller that waits at the server until `key` is filled, and the id of the connection."""
    own_id = await connection.ask("CLIENT", "ID")
    waits = asyncio.create_task(connection.ask("BLPOP", key, "0"))
    while True:
        if any(int(each["id"]) == own_id and "b" in each["flags"] for each in await client.client_list()):
            return waits, own_id
        await asyncio.sleep(0)
