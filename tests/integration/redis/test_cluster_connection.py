"""What a connection to a cluster opens, and closes: with nodes that say what they are told to say, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from core.queue.drivers.cluster_connection import ClusterConnection, connection_to
from core.queue.drivers.pipelined_connection import PipelinedConnection
from tests.contract.jobs import eventually
from tests.servers.redis import client_of
from tests.servers.redis_cluster import SLOTS
from tests.servers.resp import read_command

LONG, SHORT = 30.0, 2.0
CLOSED = "closed by this process"
LEFT = "the node has left the cluster"


class Node:
    """One of several that share the slots as `masters`, which they all hold, says."""

    def __init__(self, masters: list[Node], *, is_silent: bool) -> None:
        self.masters = masters
        self.is_silent = is_silent
        """To connections that are made from now on."""
        self.connected = asyncio.Event()
        self.connections = 0
        """That were ever made."""
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.connected.set()
        answers = not self.is_silent
        with suppress(ConnectionResetError, asyncio.CancelledError):  # cancelled by a test that ends before its client
            while words := await read_command(reader):
                if answers:
                    writer.write(self._answer(words))
        self.open -= 1
        writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
        if words == [b"CLUSTER", b"SLOTS"]:
            return self._slots()
        if words[0] == b"BLPOP":
            return b""  # nothing comes
        return b"+OK\r\n"

    def _slots(self) -> bytes:
        share = SLOTS // len(self.masters)
        parts = [
            f"*3\r\n:{number * share}\r\n:{(number + 1) * share - 1}\r\n"
            f"*3\r\n+127.0.0.1\r\n:{node.port}\r\n+{node.port}\r\n"
            for number, node in enumerate(self.masters)
        ]
        return f"*{len(parts)}\r\n{''.join(parts)}".encode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            self.port: int = server.sockets[0].getsockname()[1]
            yield


class Nodes:
    """Starts nodes; those in `masters` serve."""

    def __init__(self, running: AsyncExitStack) -> None:
        self.masters: list[Node] = []
        self._running = running

    async def start(self, *, is_silent: bool = False) -> Node:
        node = Node(self.masters, is_silent=is_silent)
        await self._running.enter_async_context(node.running())
        return node


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as running:
        yield Nodes(running)


@asynccontextmanager
async def connected_to(node: Node) -> AsyncIterator[ClusterConnection]:
    """To the cluster of a node."""
    client = client_of(f"redis+cluster://127.0.0.1:{node.port}")
    connection = connection_to(client, LONG)
    assert isinstance(connection, ClusterConnection)
    try:
        yield connection
    finally:
        await connection.close()
        await client.aclose()


async def test_closing_ends_the_wait_for_a_node_that_tells_who_serves_what(nodes: Nodes) -> None:
    silent = await nodes.start(is_silent=True)
    async with connected_to(silent) as connection:
        asks = [asyncio.create_task(each) for each in (connection.ask("GET", "a"), connection.masters())]
        await silent.connected.wait()
        await _closes(connection, asks)
    assert silent.connections == 1


async def test_closing_ends_the_wait_for_a_connection_to_a_node(nodes: Nodes) -> None:
    silent, seed = await nodes.start(is_silent=True), await nodes.start()
    nodes.masters.append(silent)
    async with connected_to(seed) as connection:
        asks = [asyncio.create_task(connection.ask("GET", key)) for key in "ab"]
        await silent.connected.wait()
        await _closes(connection, asks)
    assert silent.connections == 1


async def _closes(connection: ClusterConnection, asks: list[asyncio.Task[Any]]) -> None:
    async with asyncio.timeout(SHORT):
        await connection.close()
        for ask in asks:
            with pytest.raises(RedisConnectionError, match=CLOSED):
                await ask


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: connection.ask("GET", "a"),
        lambda connection: connection.ask_at("GET", "a"),
        lambda connection: connection.masters(),
    ],
)
async def test_a_closed_one_opens_nothing(
    nodes: Nodes, use: Callable[[ClusterConnection], Coroutine[Any, Any, Any]]
) -> None:
    node = await nodes.start()
    nodes.masters.append(node)
    async with connected_to(node) as connection:
        assert await connection.ask("GET", "a") == b"OK"
        before = node.connections
        await connection.close()
        await connection.close()
        with pytest.raises(RedisConnectionError, match=CLOSED):
            await use(connection)
        (told,) = await connection.ask_all(("GET", "a"))
        assert isinstance(told, RedisConnectionError)
    assert node.connections == before


async def test_each_node_is_left_whatever_leaving_another_raises(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.masters += [await nodes.start() for _ in range(3)]
    close = PipelinedConnection.close

    async def close_and_raise(self: PipelinedConnection) -> None:
        await close(self)
        raise OSError("refused")

    async with connected_to(nodes.masters[0]) as connection:
        for each in await connection.masters():
            await each.ask("PING")
        assert [node.open for node in nodes.masters[1:]] == [1, 1]
        monkeypatch.setattr(PipelinedConnection, "close", close_and_raise)
        with pytest.raises(OSError, match="refused"):
            await connection.close()
        for node in nodes.masters[1:]:
            await _is_left(node)
        with pytest.raises(RedisConnectionError, match=CLOSED):
            await connection.ask("GET", "a")


async def test_a_node_that_has_left_is_never_connected_to_again(nodes: Nodes) -> None:
    former, now = await nodes.start(), await nodes.start()
    nodes.masters.append(former)
    async with connected_to(former) as connection:
        (kept,) = await connection.masters()
        assert await kept.ask("PING") == b"OK"
        nodes.masters[:] = [now]
        await connection.masters()
        await _is_left(former)
        before = former.connections
        with pytest.raises(RedisConnectionError, match=LEFT):
            await kept.ask("PING")
        assert await connection.ask("GET", "a") == b"OK"
    assert former.connections == before


async def test_a_node_that_has_left_and_says_nothing_holds_nobody_up(nodes: Nodes) -> None:
    leaves, stays = await nodes.start(), await nodes.start()
    nodes.masters[:] = [leaves, stays]
    async with connected_to(leaves) as connection:
        former, _ = await connection.masters()
        leaves.is_silent = True
        leaves.connected.clear()
        waits = asyncio.create_task(former.ask("PING"))
        await leaves.connected.wait()
        leaves.is_silent = False  # to the client, which may ask it who serves what
        nodes.masters[:] = [stays]
        async with asyncio.timeout(SHORT):
            await connection.masters()
            with pytest.raises(RedisConnectionError, match=LEFT):
                await waits


async def test_who_waits_for_the_answer_of_a_node_that_has_left_hears_of_that(nodes: Nodes) -> None:
    leaves, stays = await nodes.start(), await nodes.start()
    nodes.masters[:] = [leaves, stays]
    async with connected_to(stays) as connection:
        former, _ = await connection.masters()
        reply = (await former.open()).to(("BLPOP", "a", "0"))
        nodes.masters[:] = [stays]
        async with asyncio.timeout(SHORT):
            await connection.masters()
            told = await reply
    assert isinstance(told, RedisConnectionError)
    assert str(told) == LEFT


async def _is_left(node: Node) -> None:
    async def probe() -> bool:
        return node.open == 0

    await eventually(probe)
