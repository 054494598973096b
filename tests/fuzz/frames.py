"""What a broker may send, right and wrong, in pieces of any size: read as the plain reader reads it, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from core.errors import MalformedPacketError
from core.mqtt.frames import FrameReader, Packet
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties
from tests.fuzz import plain_mqtt
from tests.fuzz.mutations import Mutator

_TOPICS = ["a", "sensors/pump-7/telemetry", "devices/7/status", "größe/ü", "a//b", "/", "$SYS/load", "x" * 300]
_TEXTS = ["", "text/plain", "reply/here", "é\U0001f680"]
_OTHERS = [
    *(b"\xd0\x00", b"\x40\x02\x00\x01", b"\x90\x04\x00\x01\x00\x01", b"\xe0\x00", b"\x20\x03\x00\x00\x00"),
    *(b"\x36\x05\x00\x01a\x00\x00", b"\x34\x06\x00\x01a\xff\xf0\x00", b"\x00\x00", b"\x62\x02\xff\xf0", b"\xf0\x00"),
]
"""Answers, packets that only clients send, and those that cannot be. QoS 2 has an identifier of its own: of two
messages under one, nobody could tell which was acknowledged."""


class Frames:
    """Makes streams. `random` alone decides."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.mutator = Mutator(random)

    def message(self, *, is_v5: bool) -> IncomingMessage:
        random = self._random
        qos = random.randrange(2)
        return IncomingMessage(
            random.choice(_TOPICS),
            random.randbytes(random.choice([0, 1, 20, 130, 1000])),
            qos,
            random.random() < 0.3,
            qos == 1 and random.random() < 0.3,
            self._properties() if is_v5 and random.random() < 0.6 else NO_PROPERTIES,
            random.randint(1, 65535) if qos else 0,
        )

    def _properties(self) -> MessageProperties:
        random = self._random
        return MessageProperties(
            content_type=random.choice([None, *_TEXTS]),
            response_topic=random.choice([None, *_TEXTS[1:]]),
            correlation_data=random.choice([None, b"", random.randbytes(9)]),
            message_expiry=random.choice([None, 0, 60, 0xFFFFFFFF]),
            payload_is_text=random.random() < 0.3,
            user_properties=tuple((random.choice(_TEXTS), "v") for _ in range(random.choice([0, 0, 1, 3]))),
        )

    def stream(self, *, is_v5: bool) -> bytes:
        parts = [self._part(is_v5=is_v5) for _ in range(self._random.randint(1, 4))]
        whole = b"".join(parts)
        return whole if self._random.random() < 0.1 else self.mutator.mutate(whole)

    def _part(self, *, is_v5: bool) -> bytes:
        if self._random.random() < 0.15:
            return self._random.choice(_OTHERS)
        return plain_mqtt.write_publish(self.message(is_v5=is_v5), is_v5=is_v5)


def fuzz(random: Random, count: int) -> Iterator[bytes]:
    """Try that many streams; each is told before it is tried."""
    frames = Frames(random)
    for _ in range(count):
        is_v5 = random.random() < 0.7
        stream = frames.stream(is_v5=is_v5)
        yield stream
        check(frames.mutator.pieces(stream), is_v5=is_v5)


def check(pieces: list[bytes], *, is_v5: bool) -> None:
    expected = plain_mqtt.read_stream(b"".join(pieces), is_v5=is_v5)
    found = read(pieces, is_v5=is_v5)
    assert found == expected, f"{found} instead of {expected}"


def read(pieces: list[bytes], *, is_v5: bool) -> tuple[list[IncomingMessage | Packet], bool]:
    """The packets that the fast path reads, and whether it refuses what is behind them."""
    reader, packets = FrameReader(is_v5=is_v5), list[IncomingMessage | Packet]()
    try:
        for piece in pieces:
            packets.extend(reader.packets(piece))
    except MalformedPacketError:
        return packets, True
    return packets, False
