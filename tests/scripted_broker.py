"""An MQTT broker that does what a test tells it to: raw MQTT 5 and 3.1.1 on a loopback port of its own.

async with ScriptedBroker() as broker:
    session = await broker.next_session()     # the next client that was let in
    session.publish("a/b", b"x", mid=7)
    assert await session.next_puback() == 7
    session.cut()

It is strict: what a client may not send (tests/client_conduct.py) fails the test at the end of the block.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.client_conduct import (
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    SUBSCRIBE,
    ClientConduct,
    Connect,
)
from tests.servers.process import free_port

CONNACK, SUBACK, PINGRESP = 2, 9, 13

_PATIENCE = 20.0  # seconds after which a test that waits for something is told that it never came


@dataclass(frozen=True)
class Publish:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    properties: bytes


@dataclass(frozen=True)
class Subscribe:
    filters: list[tuple[str, int]]


@dataclass
class Session:
    """One connection. What the client sends waits in queues, one for each kind of packet."""

    connect: Connect
    writer: asyncio.StreamWriter
    conduct: ClientConduct
    subscribes: asyncio.Queue[Subscribe] = field(default_factory=asyncio.Queue)
    publishes: asyncio.Queue[Publish] = field(default_factory=asyncio.Queue)
    pubacks: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    pubrecs: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    pubcomps: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    pings: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    said_disconnect: bool = False
    puback_count: int = 0

    @property
    def is_v5(self) -> bool:
        return self.connect.level == 5

    async def next_subscribe(self) -> Subscribe:
        return await asyncio.wait_for(self.subscribes.get(), _PATIENCE)

    async def next_publish(self) -> Publish:
        return await asyncio.wait_for(self.publishes.get(), _PATIENCE)

    async def next_puback(self) -> int:
        return await asyncio.wait_for(self.pubacks.get(), _PATIENCE)

    async def next_pubrec(self) -> int:
        return await asyncio.wait_for(self.pubrecs.get(), _PATIENCE)

    async def next_pubcomp(self) -> int:
        return await asyncio.wait_for(self.pubcomps.get(), _PATIENCE)

    async def next_ping(self) -> None:
        await asyncio.wait_for(self.pings.get(), _PATIENCE)

    async def end(self) -> None:
        await asyncio.wait_for(self.ended.wait(), _PATIENCE)

    def send(self, kind: int, body: bytes, flags: int = 0) -> None:
        self.writer.write(bytes([kind << 4 | flags]) + _varint(len(body)) + body)

    def publish(
        self,
        topic: str | bytes,
        payload: bytes = b"",
        *,
        mid: int = 0,
        duplicate: bool = False,
        retain: bool = False,
        properties: bytes = b"",
    ) -> None:
        """QoS 1 with a `mid`, QoS 0 without."""
        if mid:
            self.conduct.was_sent(mid, payload)
        body = _text(topic) + (struct.pack("!H", mid) if mid else b"")
        body += (_varint(len(properties)) + properties) if self.is_v5 else b""
        self.send(PUBLISH, body + payload, flags=8 * duplicate | 2 * bool(mid) | retain)

    def disconnect(self, reason: int) -> None:
        """MQTT 5: the broker says why, and hangs up."""
        self.send(DISCONNECT, bytes([reason, 0]))
        self.writer.close()

    def stop_reading(self) -> None:
        """Leave what the client writes in its socket."""
        self._transport.pause_reading()

    def go_on_reading(self) -> None:
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport:
        assert isinstance(self.writer.transport, asyncio.Transport)
        return self.writer.transport

    def cut(self) -> None:
        self.writer.transport.abort()

    async def reset(self, last: bytes) -> None:
        """Cut it with an error, which for the client lies behind the `last` bytes: it hears of both at once."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as connection:
            self.cut()
            await self.end()  # from here on, this is the only hold on it, and what is done to it is done at once
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.send(last)


class ScriptedBroker:
    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self.connects: list[Connect] = []
        self.connack = 0
        """The reason code for the CONNECTs to come; other than 0, they are refused."""
        self.session_present = False
        self.suback: Callable[[str, int], int] = lambda _, qos: qos
        self.greeting = b""
        """Where it is set, all that is ever said."""
        self.answers_connect = True
        self.answers_subscribe = True
        self.answers_publish = True
        self.answers_ping = True
        self.may_acknowledge: Callable[[bytes], bool] = lambda _: True
        """Whether the message with this payload may be acknowledged by now."""
        self.violations: list[str] = []
        """What clients did that they may not."""
        self.on_connack: Callable[[Session], None] = lambda _: None
        """Called right after CONNACK, before anything else is read."""
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()
        self._attempts: asyncio.Queue[Connect] = asyncio.Queue()
        self._hangups: asyncio.Queue[None] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None:
            self.require_good_conduct()

    def require_good_conduct(self) -> None:
        """Raise AssertionError where a client did what it may not."""
        assert not self.violations, "\n".join(self.violations)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)

    async def stop(self) -> None:
        """Hang up on everybody; started again, it listens on the same port."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next_session(self) -> Session:
        return await asyncio.wait_for(self._sessions.get(), _PATIENCE)

    async def next_attempt(self) -> Connect:
        return await asyncio.wait_for(self._attempts.get(), _PATIENCE)

    async def next_hangup(self) -> None:
        """The next end of a connection, whether or not there was a CONNECT."""
        await asyncio.wait_for(self._hangups.get(), _PATIENCE)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._hangups.put_nowait(None)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.greeting:
            writer.write(self.greeting)
            await reader.read()
            return
        conduct = ClientConduct(self.violations, lambda payload: self.may_acknowledge(payload))
        conduct.sends(*await _packet(reader))
        connect = conduct.connect
        if connect is None:
            return
        self.connects.append(connect)
        self._attempts.put_nowait(connect)
        if not self.answers_connect:
            await reader.read()
            return
        session = Session(connect, writer, conduct)
        properties = b"\x00" if session.is_v5 else b""
        session.send(CONNACK, bytes([self.session_present and not self.connack, self.connack]) + properties)
        if self.connack:
            await writer.drain()
            return
        self._sessions.put_nowait(session)
        self.on_connack(session)
        await self._listen(reader, session)

    async def _listen(self, reader: asyncio.StreamReader, session: Session) -> None:
        try:
            while not session.said_disconnect:
                first, length, body = await _packet(reader)
                session.conduct.sends(first, length, body)
                self._answer(session, first >> 4, first & 15, body)
        finally:
            session.ended.set()
        session.conduct.sends_more(await reader.read())

    def _answer(self, session: Session, kind: int, flags: int, body: bytes) -> None:
        if kind == SUBSCRIBE:
            self._answer_subscribe(session, body)
        elif kind == PUBLISH:
            self._answer_publish(session, flags, body)
        elif kind == PUBACK:
            session.puback_count += 1
            session.pubacks.put_nowait(struct.unpack("!H", body[:2])[0])
        elif kind in (PUBREC, PUBCOMP):
            (session.pubrecs if kind == PUBREC else session.pubcomps).put_nowait(struct.unpack("!H", body[:2])[0])
        elif kind == PINGREQ:
            session.pings.put_nowait(None)
            if self.answers_ping:
                session.send(PINGRESP, b"")
        elif kind == DISCONNECT:
            session.said_disconnect = True

    def _answer_subscribe(self, session: Session, body: bytes) -> None:
        properties = _varint_at(body, 2)[0] + 1 if session.is_v5 else 0
        filters = _parse_filters(body[2 + properties :])
        session.subscribes.put_nowait(Subscribe(filters))
        if self.answers_subscribe:
            session.conduct.was_answered(struct.unpack("!H", body[:2])[0])
            codes = bytes(self.suback(topic_filter, qos) for topic_filter, qos in filters)
            session.send(SUBACK, body[:2] + (b"\x00" if session.is_v5 else b"") + codes)

    def _answer_publish(self, session: Session, flags: int, body: bytes) -> None:
        publish = _parse_publish(body, flags, is_v5=session.is_v5)
        session.publishes.put_nowait(publish)
        if publish.qos and self.answers_publish:
            session.conduct.was_answered(publish.mid)
            session.send(PUBACK, struct.pack("!H", publish.mid))


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """The first byte, the length as it was written, and the rest."""
    first = (await reader.readexactly(1))[0]
    length = await reader.readexactly(1)
    while length[-1] > 127:
        length += await reader.readexactly(1)
    return first, length, await reader.readexactly(_varint_at(length, 0)[0])


def _parse_publish(body: bytes, flags: int, *, is_v5: bool) -> Publish:
    topic, at = _bytes_at(body, 0)
    qos, mid, properties = flags >> 1 & 3, 0, b""
    if qos:
        (mid,) = struct.unpack_from("!H", body, at)
        at += 2
    if is_v5:
        length, at = _varint_at(body, at)
        properties, at = body[at : at + length], at + length
    return Publish(topic.decode(), body[at:], qos, bool(flags & 1), mid, properties)


def _parse_filters(data: bytes) -> list[tuple[str, int]]:
    filters, at = [], 0
    while at < len(data):
        topic_filter, at = _bytes_at(data, at)
        filters.append((topic_filter.decode(), data[at] & 3))
        at += 1
    return filters


def _bytes_at(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("!H", data, at)
    return data[at + 2 : at + 2 + length], at + 2 + length


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, rest = divmod(value, 128)
        encoded.append(rest | (128 if value else 0))
        if not value:
            return bytes(encoded)


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data
