"""PUBLISH packets, read and written as plainly as the specification words them: what the fast path is compared with.

A packet is unreadable where its parts do not fit into it, or where there can be none like it. What is merely wrong
(text that is not UTF-8, a flag of 7) is read, as the fast path does: its handler judges it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.mqtt.frames import Packet
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties


class Unreadable(Exception):
    """From here on the stream makes no sense."""


class _NotWhole(Exception):
    """The packet has not come to its end yet."""


@dataclass
class _Bytes:
    """MQTT 5, section 1.5: data representation."""

    data: bytes
    at: int = 0

    @property
    def is_over(self) -> bool:
        return self.at == len(self.data)

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise _NotWhole
        self.at += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def two_bytes(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def four_bytes(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def binary(self) -> bytes:
        return self.take(self.two_bytes())

    def text(self) -> str:
        return self.binary().decode("utf-8", "backslashreplace")

    def pair(self) -> tuple[str, str]:
        return self.text(), self.text()

    def variable(self) -> int:
        """1.5.5: seven bits in each of four bytes at most."""
        value = 0
        for place in range(4):
            byte = self.byte()
            value += (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise Unreadable

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


def read_stream(data: bytes, *, is_v5: bool) -> tuple[list[IncomingMessage | Packet], bool]:
    """The packets that are whole, and whether one behind them is unreadable."""
    stream, packets = _Bytes(data), list[IncomingMessage | Packet]()
    while not stream.is_over:
        try:
            first, body = stream.byte(), stream.take(stream.variable())
            packets.append(_read(first, body, is_v5))
        except _NotWhole:
            return packets, False
        except Unreadable:
            return packets, True
    return packets, False


def _read(first: int, body: bytes, is_v5: bool) -> IncomingMessage | Packet:
    kind, qos = first >> 4, first >> 1 & 3
    if kind == 0 or (kind == 3 and qos == 3):
        raise Unreadable
    if kind != 3 or qos == 2:
        return Packet(first, body)
    try:
        return _read_publish(first, _Bytes(body), is_v5)
    except _NotWhole:
        raise Unreadable from None


def _read_publish(first: int, body: _Bytes, is_v5: bool) -> IncomingMessage:
    topic, qos = body.text(), first >> 1 & 3
    mid = body.two_bytes() if qos else 0
    properties = _read_properties(_Bytes(body.take(body.variable()))) if is_v5 else NO_PROPERTIES
    if not topic or (qos and not mid):
        raise Unreadable
    return IncomingMessage(topic, body.rest(), qos, bool(first & 1), bool(first & 8), properties, mid)


def read_publish_properties(data: bytes) -> MessageProperties:
    """Raises Unreadable."""
    try:
        return _read_properties(_Bytes(data))
    except _NotWhole:
        raise Unreadable from None


def _read_properties(properties: _Bytes) -> MessageProperties:
    found: dict[str, Any] = {}
    users: list[tuple[str, str]] = []
    while not properties.is_over:
        name, read = _PROPERTIES.get(properties.byte(), ("", None))
        if read is None:
            raise Unreadable
        value = read(properties)
        if name == "user_properties":
            users.append(value)
        elif name != "subscription_identifier":
            found[name] = value
    return MessageProperties(**found, user_properties=tuple(users))


_PROPERTIES: dict[int, tuple[str, Callable[[_Bytes], Any]]] = {
    0x01: ("payload_is_text", lambda properties: bool(properties.byte())),
    0x02: ("message_expiry", _Bytes.four_bytes),
    0x03: ("content_type", _Bytes.text),
    0x08: ("response_topic", _Bytes.text),
    0x09: ("correlation_data", _Bytes.binary),
    0x0B: ("subscription_identifier", _Bytes.variable),
    0x26: ("user_properties", _Bytes.pair),
}
"""3.3.2.3. Topic aliases (0x23) cannot come: we allow none."""


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────


def write_packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + write_variable(len(body)) + body


def write_publish(message: IncomingMessage, *, is_v5: bool) -> bytes:
    first = 0x30 | 8 * message.duplicate | message.qos << 1 | message.retain
    body = write_binary(message.topic.encode()) + (struct.pack("!H", message.mid) if message.qos else b"")
    if is_v5:
        properties = _write_properties(message.properties)
        body += write_variable(len(properties)) + properties
    return write_packet(first, body + message.payload)


def _write_properties(properties: MessageProperties) -> bytes:
    written = b"\x01\x01" if properties.payload_is_text else b""
    if properties.message_expiry is not None:
        written += b"\x02" + struct.pack("!I", properties.message_expiry)
    if properties.content_type is not None:
        written += b"\x03" + write_binary(properties.content_type.encode())
    if properties.response_topic is not None:
        written += b"\x08" + write_binary(properties.response_topic.encode())
    if properties.correlation_data is not None:
        written += b"\x09" + write_binary(properties.correlation_data)
    pairs = [write_binary(name.encode()) + write_binary(value.encode()) for name, value in properties.user_properties]
    return written + b"".join(b"\x26" + pair for pair in pairs)


def write_binary(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def write_variable(value: int) -> bytes:
    more, low = divmod(value, 128)
    return bytes([low | 128]) + write_variable(more) if more else bytes([low])
