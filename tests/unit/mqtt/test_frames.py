"""The packets that a stream of bytes holds, however it is cut."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MalformedPacketError
from core.mqtt.frames import FrameReader, Packet
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties


def varint(value: int) -> bytes:
    more, low = divmod(value, 128)
    return bytes([low | 128]) + varint(more) if more else bytes([low])


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(data)) + data


def frame(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


@dataclass(frozen=True)
class Sent:
    """A PUBLISH as a broker writes it."""

    topic: str | bytes
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    mid: int = 0
    properties: MessageProperties = field(default=NO_PROPERTIES)

    def frame(self, *, is_v5: bool) -> bytes:
        first = 0x30 | 8 * self.duplicate | self.qos << 1 | self.retain
        body = text(self.topic) + (struct.pack("!H", self.mid) if self.qos else b"")
        if is_v5:
            written = written_properties(self.properties)
            body += varint(len(written)) + written
        return frame(first, body + self.payload)

    def received(self) -> IncomingMessage:
        topic = self.topic.decode("utf-8", "backslashreplace") if isinstance(self.topic, bytes) else self.topic
        return IncomingMessage(topic, self.payload, self.qos, self.retain, self.duplicate, self.properties, self.mid)


def written_properties(properties: MessageProperties) -> bytes:
    written = b"\x01\x01" if properties.payload_is_text else b""
    if properties.message_expiry is not None:
        written += b"\x02" + struct.pack("!I", properties.message_expiry)
    for identifier, value in (
        (3, properties.content_type),
        (8, properties.response_topic),
        (9, properties.correlation_data),
    ):
        if value is not None:
            written += bytes([identifier]) + text(value)
    return written + b"".join(b"\x26" + text(name) + text(value) for name, value in properties.user_properties)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PROPERTIES = st.builds(
    MessageProperties,
    content_type=st.none() | TEXT,
    response_topic=st.none() | TEXT,
    correlation_data=st.none() | st.binary(max_size=8),
    message_expiry=st.none() | st.integers(0, 0xFFFFFFFF),
    payload_is_text=st.booleans(),
    user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
AT_MOST_ONCE = st.builds(
    Sent,
    topic=TEXT.filter(bool) | st.binary(min_size=1, max_size=8),
    payload=st.binary(max_size=300),
    retain=st.booleans(),
    duplicate=st.booleans(),
    properties=PROPERTIES,
)
SENT = AT_MOST_ONCE | st.builds(lambda sent, mid: replace(sent, qos=1, mid=mid), AT_MOST_ONCE, st.integers(1, 65535))
OTHER = st.builds(
    Packet, st.integers(0x10, 0xFF).filter(lambda first: first >> 4 != 3), st.binary(max_size=300)
) | st.builds(Packet, st.sampled_from([0x34, 0x3D]), st.binary(max_size=9))


def as_version(sent: Sent | Packet, *, is_v5: bool) -> Sent | Packet:
    return sent if is_v5 or isinstance(sent, Packet) else replace(sent, properties=NO_PROPERTIES)


def bytes_of(sent: Sent | Packet, *, is_v5: bool) -> bytes:
    return frame(*sent) if isinstance(sent, Packet) else sent.frame(is_v5=is_v5)


def read(pieces: list[bytes], *, is_v5: bool = True) -> list[IncomingMessage | Packet]:
    frames = FrameReader(is_v5=is_v5)
    return [packet for piece in pieces for packet in frames.packets(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [*sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(SENT | OTHER, max_size=8), st.lists(st.integers(0, 5000), max_size=8), st.booleans())
def test_whatever_is_sent_is_read_however_it_is_joined_and_cut(
    sent: list[Sent | Packet], places: list[int], is_v5: bool
) -> None:
    sent = [as_version(each, is_v5=is_v5) for each in sent]
    data = b"".join(bytes_of(each, is_v5=is_v5) for each in sent)
    expected = [each if isinstance(each, Packet) else each.received() for each in sent]
    assert read(cut(data, places), is_v5=is_v5) == expected
    assert read([data[at : at + 1] for at in range(len(data))], is_v5=is_v5) == expected


@given(SENT, st.data())
def test_cut_short_it_yields_nothing_until_the_last_byte(sent: Sent, data: st.DataObject) -> None:
    whole = sent.frame(is_v5=True)
    end = data.draw(st.integers(0, len(whole) - 1))
    frames = FrameReader(is_v5=True)
    assert list(frames.packets(whole[:end])) == []
    assert list(frames.packets(whole[end:])) == [sent.received()]


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_random_bytes_are_read_or_refused(pieces: list[bytes], is_v5: bool) -> None:
    with suppress(MalformedPacketError):
        packets = read(pieces, is_v5=is_v5)
        assert sum(_least_size(packet) for packet in packets) <= sum(map(len, pieces))


def _least_size(packet: IncomingMessage | Packet) -> int:
    return 2 + len(packet.body if isinstance(packet, Packet) else packet.payload)


@given(SENT, st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_publish_with_a_wrong_byte_is_read_or_refused(sent: Sent, at: int, byte: int, is_v5: bool) -> None:
    data = bytearray(as_version(sent, is_v5=is_v5).frame(is_v5=is_v5))  # type: ignore[union-attr]
    data[at % len(data)] = byte
    with suppress(MalformedPacketError):
        read([bytes(data)], is_v5=is_v5)


@given(SENT, SENT)
def test_what_precedes_an_unreadable_packet_is_read(first: Sent, second: Sent) -> None:
    frames = FrameReader(is_v5=True)
    packets = frames.packets(first.frame(is_v5=True) + b"\x36\x00" + second.frame(is_v5=True))
    assert next(packets) == first.received()
    with pytest.raises(MalformedPacketError, match="QoS 3"):
        next(packets)


@given(st.lists(SENT, min_size=2, max_size=5))
def test_reading_may_stop_between_two_packets_and_go_on_later(sent: list[Sent]) -> None:
    frames = FrameReader(is_v5=True)
    data = b"".join(each.frame(is_v5=True) for each in sent)
    packets = frames.packets(data[:-1])
    assert next(packets) == sent[0].received()
    assert [*packets, *frames.packets(data[-1:])] == [each.received() for each in sent[1:]]


@pytest.mark.parametrize("size", [0, 1, 119, 120, 16_375, 16_376, 2_097_143, 2_097_144])
def test_payloads_around_the_sizes_where_the_length_grows(size: int) -> None:
    sent = Sent("abcd", bytes(size), qos=0)
    data = sent.frame(is_v5=True)
    assert read([data + data]) == [sent.received()] * 2
    assert read([data[:-1], data[-1:] + data]) == [sent.received()] * 2


def test_subscription_identifiers_are_passed_over() -> None:
    body = text("a") + b"\x05" + b"\x0b\x80\x01\x0b\x07" + b"x"
    assert read([frame(0x30, body)]) == [IncomingMessage("a", b"x")]


def test_text_that_is_not_utf_8_is_passed_on_with_escapes() -> None:
    body = text(b"a/\xff") + b"\x07" + b"\x26" + text(b"\xfe") + text(b"v") + b"x"
    properties = MessageProperties(user_properties=(("\\xfe", "v"),))
    assert read([frame(0x30, body)]) == [IncomingMessage("a/\\xff", b"x", properties=properties)]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x36\x00", "QoS 3"),
        (b"\x3e\x03\x00\x01a", "QoS 3"),
        (b"\x00\x00", "type 0"),
        (b"\x0f\x00", "type 0"),
        (b"\x30\x80\x80\x80\x80", "more than four bytes"),
        (b"\xd0\xff\xff\xff\xff\x01", "more than four bytes"),
        (b"\x30\x00", "longer than the whole"),
        (b"\x30\x01\x00", "longer than the whole"),
        (b"\x30\x02\x00\x05", "longer than the whole"),
        (b"\x30\x03\x00\x01a", "longer than the whole"),  # no length of properties
        (b"\x32\x04\x00\x01a\x00", "longer than the whole"),
        (b"\x32\x05\x00\x01a\x00\x01", "longer than the whole"),
        (b"\x30\x05\x00\x01a\x02\x01", "longer than the whole"),
        (b"\x30\x06\x00\x01a\x02\x03\x00", "longer than the whole"),
        (b"\x30\x07\x00\x01a\x03\x03\x00\x07", "longer than the whole"),
        (b"\x30\x06\x00\x01a\x02\x02\x00", "longer than the whole"),
        (b"\x30\x03\x00\x00\x00", "without a topic"),
        (b"\x32\x06\x00\x01a\x00\x00\x00", "without a packet identifier"),
        (b"\x30\x07\x00\x01a\x03\x23\x00\x01", "topic alias"),
        (b"\x30\x06\x00\x00\x03\x23\x00\x01", "topic alias"),
        (b"\x30\x06\x00\x01a\x02\x11\x00", "property 0x11"),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\xd0\x00", bytes(40)], ids=["alone", "before another", "before zeros"])
def test_what_cannot_be_is_refused_with_the_reason(data: bytes, problem: str, behind: bytes) -> None:
    with pytest.raises(MalformedPacketError, match=problem):
        read([data + behind])
