"""Bytes from the broker, cut into packets: what arrives may hold many of them, or a part of one.

Every message of the system passes through here, so that a function call more would be seen: hence plain
indexing, and one pass over the bytes. What the sender got wrong is passed on for the handler to judge (text
that is not UTF-8 with escapes in it); what makes the stream unreadable raises MalformedPacketError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from core.errors import MalformedPacketError
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties

_PUBLISH = 0x30
_TYPE_AND_QOS = 0xF6
_OURS = frozenset({_PUBLISH, _PUBLISH | 2})
"""PUBLISH of QoS 0 and 1. QoS 2, which a session of old may hold, takes more than one packet."""
_NO_QOS = _PUBLISH | 6


class Packet(NamedTuple):
    """Anything but a PUBLISH of QoS 0 or 1."""

    first: int
    """Type and flags (MQTT 5, section 2.1.1)."""
    body: bytes
    """All that follows the length."""


class FrameReader:
    """Takes in what was read from one connection, in pieces of any size."""

    def __init__(self, *, is_v5: bool, connection: int = 0) -> None:
        """`connection` is the number that its messages are marked with."""
        self._is_v5 = is_v5
        self._connection = connection
        self._kept = bytearray()
        self._needed = 0  # bytes of `_kept` that make its packet whole, as far as is known

    def packets(self, data: bytes) -> Iterator[IncomingMessage | Packet]:
        """The packets that are whole with `data`. Raises MalformedPacketError where the next one is none.

        To be exhausted before the next call: until then, the rest of `data` lives in the iterator alone.
        """
        if self._kept:
            self._kept += data
            if len(self._kept) < self._needed:
                return
            data = bytes(self._kept)
            self._kept.clear()
        at, size = 0, len(data)
        self._needed = 0
        while at < size:
            try:
                first, length, body = data[at], data[at + 1], at + 2
                if length > 127:
                    length, body = _varint(data, at + 1)
            except IndexError:
                break
            end = body + length
            if end > size:
                self._needed = end - at
                break
            if first & _TYPE_AND_QOS in _OURS:
                yield self._message(first, data, body, end)
            else:
                yield _packet(first, data[body:end])
            at = end
        self._kept += data[at:]

    def _message(self, first: int, data: bytes, at: int, end: int) -> IncomingMessage:
        try:
            topic_at = at + 2
            topic_end = at = topic_at + (data[at] << 8 | data[at + 1])
            mid, properties = 0, NO_PROPERTIES
            if first & 2:
                mid = data[at] << 8 | data[at + 1]
                at += 2
            if self._is_v5:
                if data[at]:
                    properties, at = _properties_at(data, at, end)
                else:
                    at += 1
        except IndexError:
            raise _too_short() from None
        if at > end:
            raise _too_short()
        if topic_at == topic_end:
            raise MalformedPacketError("a PUBLISH without a topic")
        if first & 2 and not mid:
            raise MalformedPacketError("a PUBLISH of QoS 1 without a packet identifier (MQTT-2.2.1-3)")
        topic = str(data[topic_at:topic_end], "utf-8", "backslashreplace")
        return IncomingMessage(
            topic, data[at:end], first >> 1 & 1, bool(first & 1), bool(first & 8), properties, mid, self._connection
        )


def _packet(first: int, body: bytes) -> Packet:
    if first & _TYPE_AND_QOS == _NO_QOS:
        raise MalformedPacketError("a PUBLISH of QoS 3, which there is not (MQTT-3.3.1-4)")
    if first < 0x10:
        raise MalformedPacketError("a packet of type 0, which is reserved")
    return Packet(first, body)


def _too_short() -> MalformedPacketError:
    return MalformedPacketError("a PUBLISH whose parts are longer than the whole")


# ── Properties (MQTT 5, section 3.3.2.3) ─────────────────────────────────────────────────────────────

_Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""The value at a position, and the position behind it."""


def _properties_at(data: bytes, at: int, end: int) -> tuple[MessageProperties, int]:
    length, at = _varint(data, at)
    last = at + length
    if last > end:
        raise _too_short()
    found: dict[str, Any] = {}
    users: list[tuple[str, str]] = []
    while at < last:
        name, read = _property(data[at])
        value, at = read(data, at + 1)
        if name == "user_properties":
            users.append(value)
        elif name:
            found[name] = value
    if at != last:
        raise _too_short()
    return MessageProperties(**found, user_properties=tuple(users)), at


def _property(identifier: int) -> tuple[str, _Read]:
    try:
        return _PROPERTIES[identifier]
    except KeyError:
        if identifier == 0x23:
            raise MalformedPacketError("a topic alias, though we allow none (MQTT-3.1.2-26)") from None
        raise MalformedPacketError(f"property {identifier:#04x}, which a PUBLISH does not have") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 28:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at
    raise MalformedPacketError("a length of more than four bytes (MQTT-1.5.5-1)")


def _number(data: bytes, at: int) -> tuple[int, int]:
    return int.from_bytes(data[at : at + 4], "big"), at + 4


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + 2
    end = start + (data[at] << 8 | data[at + 1])
    return data[start:end], end


def _text(data: bytes, at: int) -> tuple[str, int]:
    text, at = _binary(data, at)
    return str(text, "utf-8", "backslashreplace"), at


def _pair(data: bytes, at: int) -> tuple[tuple[str, str], int]:
    name, at = _text(data, at)
    value, at = _text(data, at)
    return (name, value), at


def _flag(data: bytes, at: int) -> tuple[bool, int]:
    return bool(data[at]), at + 1


_PROPERTIES: dict[int, tuple[str, _Read]] = {
    0x01: ("payload_is_text", _flag),
    0x02: ("message_expiry", _number),
    0x03: ("content_type", _text),
    0x08: ("response_topic", _text),
    0x09: ("correlation_data", _binary),
    0x0B: ("", _varint),  # the subscription's identifier: we give none
    0x26: ("user_properties", _pair),
}
