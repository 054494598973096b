"""The network between our processes and a server, told to misbehave while they talk.

passing   what there is until it is told otherwise.
silent    nothing gets through. Connections that were there before are dead from then on, and reset when it passes
          again; those made meanwhile wait until then.
refusing  every connection is closed, and each new one at once.
slow      each piece takes its time.

Beside that, a judge looks at each piece that is on its way and may cut its connection off there. A piece is what was
read in one go, or what `split` makes of it: a packet, for instance. The server has executed what it answers: to cut off
the first piece of an answer is to have something done and its caller told nothing but that the connection is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from random import Random
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

from sqlalchemy import make_url

Way: TypeAlias = Literal["request", "answer"]


class Piece(NamedTuple):
    way: Way
    data: bytes
    opens: bool
    """Whether it is the first since the other side spoke: of a request, or of an answer."""


Judge: TypeAlias = Callable[[Piece], int | None]
"""How many bytes of a piece are the last that its connection carries; None for no cut."""
Split: TypeAlias = Callable[[], Callable[[bytes], Iterator[bytes]]]
"""Makes, for each way of each connection, what cuts a stream into pieces; it keeps what is not whole yet."""


def unsplit() -> Callable[[bytes], Iterator[bytes]]:
    """Pieces as they were read."""
    return lambda data: iter([data])


class NthAnswers:
    """Cuts off the answers of these numbers, counted from 1, behind their first `keep` bytes; no others."""

    def __init__(self, *numbers: int, keep: int = 0) -> None:
        self.cuts = 0
        self._numbers = numbers
        self._keep = keep
        self._seen = 0

    def __call__(self, piece: Piece) -> int | None:
        if piece.way == "request" or not piece.opens:
            return None
        self._seen += 1
        if self._seen not in self._numbers:
            return None
        self.cuts += 1
        return min(self._keep, len(piece.data) - 1)


class RandomCuts:
    """Cuts one piece in so many, requests and answers, somewhere between their first byte and their last."""

    def __init__(self, random: Random, one_in: float) -> None:
        self._random = random
        self._chance = 1 / one_in

    def __call__(self, piece: Piece) -> int | None:
        return self._random.randrange(len(piece.data)) if self._random.random() < self._chance else None


class LostAnswers:
    """Cuts off one answer in so many as a whole: what was asked is done, and nobody is told."""

    def __init__(self, random: Random, one_in: float) -> None:
        self._random = random
        self._chance = 1 / one_in

    def __call__(self, piece: Piece) -> int | None:
        return 0 if piece.way == "answer" and piece.opens and self._random.random() < self._chance else None


class Proxy:
    """Listens on `port`, on loopback, from a thread of its own, within a `with` block.

    Its orders may come from any thread, and are carried out when they return.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int, *, split: Split = unsplit) -> None:
        self.port = 0
        self.cuts = 0
        """How many connections a judge has cut off."""
        self._server = host, port
        self._split = split
        self._judge: Judge | None = None
        self._links: set[_Link] = set()
        self._is_refusing = False
        self._seconds = 0.0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"proxy to {port}", daemon=True)

    def at(self, url: str) -> str:
        """The URL of the server, by way of this."""
        return make_url(url).set(host=self.host, port=self.port).render_as_string(hide_password=False)

    # ── orders ───────────────────────────────────────────────────────────────────────────────────────

    def pass_on(self) -> None:
        """Be a network that is well. What a judge cuts off, it still does."""

        def order() -> None:
            self._is_refusing, self._seconds = False, 0.0
            for link in self._links:
                if link.is_dead:
                    link.abort()
            self._open.set()

        self._tell(order)

    def fall_silent(self) -> None:
        def order() -> None:
            self._open.clear()
            self._forget()

        self._tell(order)

    def forget(self) -> None:
        """Let nothing more through on the connections there are, as a NAT or a dead switch does; new ones are well."""
        self._tell(self._forget)

    def refuse(self) -> None:
        def order() -> None:
            self._is_refusing = True
            for link in self._links:
                link.abort()

        self._tell(order)

    def slow_down(self, seconds: float) -> None:
        """Let each piece take so long."""

        def order() -> None:
            self._seconds = seconds

        self._tell(order)

    def judge_by(self, judge: Judge | None) -> None:
        def order() -> None:
            self._judge = judge

        self._tell(order)

    def _forget(self) -> None:
        for link in self._links:
            link.is_dead = True

    def _tell(self, order: Callable[[], None]) -> None:
        done = threading.Event()

        def carry_out() -> None:
            order()
            done.set()

        self._loop.call_soon_threadsafe(carry_out)
        done.wait()

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tell(self._ending.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open, self._ending = asyncio.Event(), asyncio.Event()
        self._open.set()
        server = await asyncio.start_server(self._connected, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ending.wait()
        server.close()
        self._open.set()
        while self._links:
            for link in self._links:
                link.abort()
            await asyncio.sleep(0.001)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._open.wait()
            if not self._is_refusing:
                await self._connect(link, reader, writer)
        except OSError:
            pass  # the server is not there
        finally:
            self._links.discard(link)
            link.close()

    async def _connect(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._server)
        link.writers.append(back)
        ways = [
            asyncio.create_task(self._carry(link, "request", reader, back)),
            asyncio.create_task(self._carry(link, "answer", there, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        if link.is_cut:
            await _let_finish(there, back, writer)

    async def _carry(self, link: _Link, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        split = self._split()
        while data := await reader.read(65536):
            if self._seconds:
                await asyncio.sleep(self._seconds)
            for piece in split(data):
                self._hand_on(link, Piece(way, piece, link.spoke_last != way), writer)
                if link.is_cut:
                    return
            await writer.drain()

    def _hand_on(self, link: _Link, piece: Piece, writer: asyncio.StreamWriter) -> None:
        """As far as it is to get."""
        if link.is_dead:
            return
        link.spoke_last = piece.way
        kept = self._judge(piece) if self._judge else None
        writer.write(piece.data[:kept])
        if kept is not None:
            self.cuts += 1
            link.is_cut = True


async def _let_finish(there: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
    """The client is told of the cut at once; the server, only behind all that it was asked."""
    writer.close()
    back.write_eof()
    while await there.read(65536):
        pass


class _Link:
    """A client's connection, and ours to the server behind it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.spoke_last: Way | None = None
        self.is_dead = False
        self.is_cut = False

    def close(self) -> None:
        """What is written already is still sent."""
        for writer in self.writers:
            writer.close()

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
