"""What a worker and its child processes say to each other: frames of msgpack over a socket.

    worker ──Setup, once──────▶ child
    worker ◀───────Ready─────── child
    worker ──Work, some ahead─▶ child
    worker ◀──Done or Raised─── child

A frame may be read ahead, so beside it goes a ticket, through a socket of which the worker keeps both ends: a child
takes one before it starts what is next, after it has answered what was before. Whoever takes a ticket has it, so the
worker can take back those of work that was not started, and knows for certain which that is. A ticket is one byte:
how many frames, whose tickets were taken back, come before its own, and are to be skipped.

No exception travels as an object: one of a library may well fail to be unpickled.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from typing import IO, TypeAlias

import msgspec


class Setup(msgspec.Struct, tag=True):
    settings: bytes
    """The parent's, pickled: it is the one program that a child takes anything from."""


class Ready(msgspec.Struct, tag=True):
    """The app's jobs are imported."""


class Work(msgspec.Struct, tag=True):
    """One try of a job."""

    job_id: str
    queue: str
    payload: bytes
    attempts: int
    soft_timeout: float
    """Seconds; 0 for none."""


class Done(msgspec.Struct, tag=True):
    """`handle` returned."""


class Raised(msgspec.Struct, tag=True):
    """`handle` raised, or the job could not be loaded."""

    message: str
    """Type and text of the exception."""
    traceback: str
    wants_retry: bool


ToChild: TypeAlias = Setup | Work
FromChild: TypeAlias = Ready | Done | Raised

_HEADER = struct.Struct(">I")
"""The length of what follows, in bytes."""
_AT_ONCE = 65536
"""Bytes read at once."""

_encode = msgspec.msgpack.Encoder().encode
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def frame(message: ToChild | FromChild) -> bytes:
    body = _encode(message)
    return _HEADER.pack(len(body)) + body


class ChildEnd:
    """Blocks, as a child has nothing else to do."""

    def __init__(self, connection: socket.socket, tickets: socket.socket) -> None:
        self._connection = connection
        self._tickets = tickets

    def messages(self) -> Iterator[ToChild]:
        """What the worker says, until it hangs up. Each is to be answered before the next is asked for."""
        with self._connection.makefile("rb") as frames:
            while ticket := self._tickets.recv(1):
                for _ in range(ticket[0]):
                    _read(frames)
                yield _to_child.decode(_read(frames))

    def answer(self, message: FromChild) -> None:
        self._connection.sendall(frame(message))


def _read(frames: IO[bytes]) -> bytes:
    (length,) = _HEADER.unpack(_read_exactly(frames, _HEADER.size))
    return _read_exactly(frames, length)


def _read_exactly(frames: IO[bytes], length: int) -> bytes:
    data = frames.read(length)
    if len(data) < length:
        raise ConnectionError("the worker hung up")
    return data


class WorkerEnd:
    """Never blocks. `on_readable` is called while it `listens`; what cannot be sent at once is sent by and by."""

    def __init__(self, connection: socket.socket, tickets: socket.socket, unclaimed: socket.socket) -> None:
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._tickets = tickets
        self._unclaimed = unclaimed  # the child's end
        self._unsent = bytearray()
        self._received = bytearray()
        self._is_sending = False
        self._on_readable: Callable[[], object] | None = None
        self.to_skip = 0
        """How many messages were taken back that the next one's ticket is to tell the child of: 255 at most."""
        self.is_cut = False
        """Whether nothing more can come: the child has hung up, or does not speak this language."""

    def send(self, messages: list[ToChild]) -> None:
        self._unsent += b"".join(map(frame, messages))
        self._send()
        self._tickets.send(bytes([self.to_skip]) + bytes(len(messages) - 1))
        self.to_skip = 0

    def take_back(self) -> int:
        """How many messages, of those sent last, the child has not started, and never will."""
        try:
            tickets = self._unclaimed.recv(_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        self.to_skip += len(tickets) + sum(tickets)
        return len(tickets)

    def receive(self) -> list[FromChild]:
        """The answers that are there. Look at `is_cut` afterwards."""
        while not self.is_cut:
            try:
                data = self._connection.recv(_AT_ONCE)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._received += data
            self.is_cut = not data
            if len(data) < _AT_ONCE:
                break
        return list(self._answers())

    def _answers(self) -> Iterator[FromChild]:
        start = 0
        with memoryview(self._received) as received:
            while start + _HEADER.size <= len(received):
                (length,) = _HEADER.unpack_from(received, start)
                end = start + _HEADER.size + length
                if end > len(received):
                    break
                try:
                    yield _from_child.decode(received[start + _HEADER.size : end])
                except msgspec.MsgspecError:
                    self.is_cut = True
                    break
                start = end
        del self._received[:start]

    def listen(self, on_readable: Callable[[], object] | None) -> None:
        """Call this while there is something to receive; None for nothing more."""
        if on_readable == self._on_readable:
            return
        self._on_readable = on_readable
        if on_readable is None:
            self._loop.remove_reader(self._connection)
        else:
            self._loop.add_reader(self._connection, on_readable)

    def hang_up(self) -> None:
        """Nothing more will be said."""
        self._tickets.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.listen(None)
        if self._is_sending:
            self._loop.remove_writer(self._connection)
        for each in (self._connection, self._tickets, self._unclaimed):
            each.close()

    def _send(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._unsent)  # to the dead; whoever waits for the answer finds out
        del self._unsent[:sent]
        if self._unsent and not self._is_sending:
            self._loop.add_writer(self._connection, self._send)
        elif self._is_sending and not self._unsent:
            self._loop.remove_writer(self._connection)
        self._is_sending = bool(self._unsent)
