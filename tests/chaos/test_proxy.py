"""The proxy does to a network what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.chaos.proxy import NthAnswers, Piece, Proxy

PATIENCE = 20.0


class Echo:
    """A server that answers each line with itself, and keeps what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[bytes] = []
        self.ends = asyncio.Queue[None]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.asked.append(line)
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.ends.put_nowait(None)
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server:
        echo.port = server.sockets[0].getsockname()[1]
        yield echo


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, line: bytes) -> None:
        self._writer.write(line)

    async def ask(self, line: bytes) -> bytes:
        """The answer, or as much of it as comes before the connection's end."""
        self.send(line)
        return await self.hear(len(line))

    async def hear(self, size: int) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as cut:
            return cut.partial
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def clients() -> AsyncIterator[list[Client]]:
    clients: list[Client] = []
    yield clients
    for client in clients:
        client.close()


async def _connect(proxy: Proxy, clients: list[Client]) -> Client:
    client = Client(*await asyncio.open_connection(proxy.host, proxy.port))
    clients.append(client)
    return client


async def test_it_passes_on(proxy: Proxy, clients: list[Client]) -> None:
    client = await _connect(proxy, clients)
    assert await client.ask(b"one\n") == b"one\n"
    assert await client.ask(b"two\n") == b"two\n"


async def test_it_closes_every_connection_and_refuses_new_ones(proxy: Proxy, clients: list[Client]) -> None:
    before = await _connect(proxy, clients)
    assert await before.ask(b"one\n") == b"one\n"
    proxy.refuse()
    assert await before.hear(1) == b""
    assert await (await _connect(proxy, clients)).hear(1) == b""
    proxy.pass_on()
    assert await (await _connect(proxy, clients)).ask(b"two\n") == b"two\n"


async def test_silent_it_lets_nothing_through_and_what_was_connected_is_dead(
    echo: Echo, proxy: Proxy, clients: list[Client]
) -> None:
    before = await _connect(proxy, clients)
    assert await before.ask(b"before\n") == b"before\n"
    proxy.fall_silent()
    before.send(b"into the void\n")
    meanwhile = await _connect(proxy, clients)
    meanwhile.send(b"meanwhile\n")
    proxy.pass_on()
    assert await before.hear(1) == b""
    assert await meanwhile.hear(10) == b"meanwhile\n"
    assert echo.asked == [b"before\n", b"meanwhile\n"]


async def test_it_forgets_a_connection_and_not_those_that_follow(
    echo: Echo, proxy: Proxy, clients: list[Client]
) -> None:
    before = await _connect(proxy, clients)
    assert await before.ask(b"before\n") == b"before\n"
    proxy.forget()
    before.send(b"into the void\n")
    assert await (await _connect(proxy, clients)).ask(b"after\n") == b"after\n"
    assert echo.asked == [b"before\n", b"after\n"]


async def test_slow_it_takes_its_time(proxy: Proxy, clients: list[Client]) -> None:
    client = await _connect(proxy, clients)
    proxy.slow_down(0.05)
    begun = asyncio.get_running_loop().time()
    assert await client.ask(b"one\n") == b"one\n"
    assert asyncio.get_running_loop().time() >= begun + 0.1


async def test_an_answer_is_cut_off_after_the_server_has_done_what_it_was_asked(
    echo: Echo, proxy: Proxy, clients: list[Client]
) -> None:
    judge = NthAnswers(2)
    proxy.judge_by(judge)
    client = await _connect(proxy, clients)
    assert await client.ask(b"one\n") == b"one\n"
    assert await client.ask(b"two\n") == b""
    assert judge.cuts == proxy.cuts == 1
    assert echo.asked == [b"one\n", b"two\n"]
    await asyncio.wait_for(echo.ends.get(), PATIENCE)
    assert await (await _connect(proxy, clients)).ask(b"three\n") == b"three\n"


async def test_an_answer_is_cut_off_in_the_middle(proxy: Proxy, clients: list[Client]) -> None:
    proxy.judge_by(NthAnswers(1, keep=2))
    assert await (await _connect(proxy, clients)).ask(b"one\n") == b"on"


async def test_a_request_is_cut_off_before_the_server_hears_of_it(
    echo: Echo, proxy: Proxy, clients: list[Client]
) -> None:
    proxy.judge_by(lambda piece: 0 if piece.way == "request" else None)
    assert await (await _connect(proxy, clients)).ask(b"one\n") == b""
    await asyncio.wait_for(echo.ends.get(), PATIENCE)
    assert echo.asked == []


async def test_pieces_are_what_the_stream_is_split_into(echo: Echo, clients: list[Client]) -> None:
    seen: list[Piece] = []
    judge = seen.append
    with Proxy("127.0.0.1", echo.port, split=lambda: lambda data: iter(data.splitlines(keepends=True))) as proxy:
        proxy.judge_by(judge)
        assert await (await _connect(proxy, clients)).ask(b"one\ntwo\n") == b"one\ntwo\n"
    asked = [piece for piece in seen if piece.way == "request"]
    assert [(piece.data, piece.opens) for piece in asked] == [(b"one\n", True), (b"two\n", False)]
