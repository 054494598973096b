"""What a worker and its child processes say to each other: frames of msgpack over a socket.

    worker ──Setup, once────▶ child
    worker ◀───────Ready───── child
    worker ──Work, one a time▶ child
    worker ◀──Done or Raised─ child

No exception travels as an object: one of a library may well fail to be unpickled.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

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

HEADER = struct.Struct(">I")
"""The length of what follows, in bytes."""

_encode = msgspec.msgpack.Encoder().encode
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def read_to_child(body: bytes) -> ToChild:
    return _to_child.decode(body)


def read_from_child(body: bytes) -> FromChild:
    return _from_child.decode(body)


def frame(message: ToChild | FromChild) -> bytes:
    body = _encode(message)
    return HEADER.pack(len(body)) + body
