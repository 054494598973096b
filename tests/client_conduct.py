"""What a broker may demand of our client: every byte that it sends is looked at, and what is wrong is kept.

The rules are those of MQTT 5 and 3.1.1, whose numbers stand beside them, and those that we have made ourselves: the
session is kept, one SUBSCRIBE asks for all, nothing is acknowledged before the test says that it may be.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from core.mqtt.topic import covers, split_share
from tests import topic_model
from tests.fuzz import plain_mqtt

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 12, 14
PUBREC, PUBCOMP = 5, 7
_FLAGS = {CONNECT: 0, PUBACK: 0, PUBREC: 0, PUBCOMP: 0, SUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0}
"""2.1.3: bits that are reserved."""
_SESSION_EXPIRY, _RECEIVE_MAXIMUM = 0x11, 0x21


class _Wrong(Exception):
    """A rule that was broken."""


@dataclass(frozen=True)
class Connect:
    """What a client said in its CONNECT."""

    level: int
    client_id: str
    clean: bool
    keepalive: int
    username: str | None = None
    password: str | None = None
    will_topic: str | None = None
    will_payload: bytes | None = None
    session_expiry: int | None = None
    receive_maximum: int | None = None


@dataclass
class _Reader:
    data: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        _require(len(taken) == count, "a packet is shorter than its parts")
        self.at += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def short(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.short())

    def text(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise _Wrong("text is not UTF-8 (MQTT-1.5.4-1)") from None
        _require("\0" not in text, "text contains NUL (MQTT-1.5.4-2)")
        return text

    def variable(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def is_over(self) -> bool:
        return self.at == len(self.data)


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise _Wrong(rule)


@dataclass
class ClientConduct:
    """One connection. `violations` is shared with those before and after it."""

    violations: list[str]
    may_acknowledge: Callable[[bytes], bool] = lambda _: True
    """Whether the message with this payload may be acknowledged by now."""
    connect: Connect | None = None
    _unacknowledged: deque[tuple[int, bytes]] = field(default_factory=deque)
    """What it was sent with QoS 1, in that order: identifiers and payloads."""
    _of_qos_2: set[int] = field(default_factory=set)
    _in_use: set[int] = field(default_factory=set)
    """Identifiers of its own that were not answered yet."""
    _subscribes: int = 0
    _has_disconnected: bool = False

    # ── what the broker does ─────────────────────────────────────────────────────────────────────────

    def was_sent(self, mid: int, payload: bytes) -> None:
        """A PUBLISH of QoS 1."""
        self._unacknowledged.append((mid, payload))

    def was_sent_with_qos_2(self, mid: int) -> None:
        """As a session of old may bring it."""
        self._of_qos_2.add(mid)

    def was_answered(self, mid: int) -> None:
        """By a SUBACK or PUBACK."""
        self._in_use.discard(mid)

    # ── what the client does ─────────────────────────────────────────────────────────────────────────

    def sends(self, first: int, length: bytes, body: bytes) -> None:
        """A whole packet: its first byte, its length as it was written, and the rest."""
        try:
            self._look_at(first, length, body)
        except _Wrong as wrong:
            self.violations.append(f"{wrong}: {(bytes([first]) + length + body)[:80].hex(' ')}")

    def sends_more(self, data: bytes) -> None:
        """Behind its DISCONNECT."""
        if data:
            self.violations.append(f"bytes follow DISCONNECT (MQTT-3.14.4-1): {data[:80].hex(' ')}")

    def _look_at(self, first: int, length: bytes, body: bytes) -> None:
        kind, flags = first >> 4, first & 15
        _require(
            length == plain_mqtt.write_variable(len(body)), "a length takes more bytes than it needs (MQTT-1.5.5-1)"
        )
        _require(
            kind in _LOOKS and (kind not in (PUBREC, PUBCOMP) or bool(self._of_qos_2)),
            f"packet type {kind} is none that our client has to send",
        )
        _require(flags == _FLAGS.get(kind, flags), "reserved flags are set (MQTT-2.1.3-1)")
        _require((kind == CONNECT) is (self.connect is None), "CONNECT comes first, and once (MQTT-3.1.0-1, -2)")
        reader = _Reader(body)
        _LOOKS[kind](self, reader, flags)
        _require(reader.is_over(), "a packet is longer than its parts")

    def _look_at_connect(self, reader: _Reader, _: int) -> None:
        connect, flags = _read_connect(reader)
        self.connect = connect
        _require(not flags & 1, "the reserved flag of CONNECT is set (MQTT-3.1.2-3)")
        _require(bool(flags & 4) or not flags & 0x38, "a will's QoS or retain without a will (MQTT-3.1.2-11, -13)")
        _require(flags >> 3 & 3 != 3, "a will of QoS 3 (MQTT-3.1.2-12)")
        _require(bool(flags & 128) or not flags & 64 or connect.level == 5, "a password without a name (MQTT-3.1.2-22)")
        _require(connect.client_id != "", "no client id: its session would be lost")
        _require(not connect.clean, "a clean start: the session, and what waits in it, would be lost")
        _require(connect.keepalive > 0, "no keepalive: a dead connection would never be noticed")
        if connect.level == 5:
            _require(bool(connect.session_expiry), "no session expiry: the session would end with the connection")
            _require(bool(connect.receive_maximum), "no Receive Maximum: the broker would send as it likes")

    def _look_at_subscribe(self, reader: _Reader, _: int) -> None:
        self._subscribes += 1
        _require(self._subscribes == 1, "a second SUBSCRIBE on one connection")
        self._use(reader.short())
        if self._is_v5:
            reader.take(reader.variable())
        filters: list[str] = []
        while not reader.is_over():
            filters.append(self._filter(reader))
        _require(bool(filters), "a SUBSCRIBE without a filter (MQTT-3.8.3-2)")
        for each in filters:
            others = [other for other in filters if other is not each]
            _require(not any(covers(wide, each) for wide in others), f"{each} is covered by another filter")

    def _filter(self, reader: _Reader) -> str:
        text, options = reader.text(), reader.byte()
        group, topic_filter = split_share(text)
        _require(topic_model.is_filter(topic_filter), f"{text!r} is no topic filter (MQTT-4.7.1)")
        _require(
            group is None or (group != "" and not set("+#") & set(group)), f"{text!r} names no group (MQTT-4.8.2-2)"
        )
        _require(options & 3 <= 1, "QoS 2 is asked for, at which messages would be lost")
        _require(
            not options & (0xC0 if self._is_v5 else 0xFC), "reserved bits of a subscription are set (MQTT-3.8.3-5)"
        )
        _require(options >> 4 & 3 != 3, "a retain handling that there is not (MQTT-3.8.3-4)")
        _require(group is None or not options & 4, "No Local on a shared subscription (MQTT-3.8.3-4)")
        return text

    def _look_at_publish(self, reader: _Reader, flags: int) -> None:
        qos = flags >> 1 & 3
        _require(qos != 3, "a PUBLISH of QoS 3 (MQTT-3.3.1-4)")
        _require(bool(qos) or not flags & 8, "a PUBLISH of QoS 0 that says to be a duplicate (MQTT-3.3.1-2)")
        topic = reader.text()
        _require(topic != "" and not set("+#") & set(topic), f"{topic!r} is no topic (MQTT-3.3.2-2)")
        if qos:
            self._use(reader.short())
        if self._is_v5:
            _read_publish_properties(reader.take(reader.variable()))
        reader.take(len(reader.data) - reader.at)

    def _look_at_puback(self, reader: _Reader, _: int) -> None:
        mid = reader.short()
        if self._is_v5 and not reader.is_over():
            _require(reader.byte() < 0x80, "a PUBACK with an error, though the message is not lost")
            reader.take(0 if reader.is_over() else reader.variable())
        _require(
            mid in {each for each, _ in self._unacknowledged}, f"PUBACK {mid} of what was not sent, or is acknowledged"
        )
        first, payload = self._unacknowledged[0]
        _require(mid == first, f"PUBACK {mid} before {first}, which came earlier (MQTT-4.6.0-2)")
        self._unacknowledged.popleft()
        _require(self.may_acknowledge(payload), f"PUBACK {mid} before its jobs are stored")

    def _look_at_qos_2(self, reader: _Reader, _: int) -> None:
        mid = reader.short()
        _require(mid in self._of_qos_2, f"an answer to {mid}, which was not sent with QoS 2")

    def _look_at_ping(self, reader: _Reader, _: int) -> None:
        """There is nothing in it."""

    def _look_at_disconnect(self, reader: _Reader, _: int) -> None:
        if self._is_v5 and not reader.is_over():
            _require(reader.byte() in (0x00, 0x04), "a DISCONNECT with an error")
            reader.take(0 if reader.is_over() else reader.variable())

    @property
    def _is_v5(self) -> bool:
        return self.connect is not None and self.connect.level == 5

    def _use(self, mid: int) -> None:
        _require(mid != 0, "a packet identifier of 0 (MQTT-2.2.1-3)")
        _require(mid not in self._in_use, f"packet identifier {mid} is in use (MQTT-2.2.1-4)")
        self._in_use.add(mid)


_LOOKS: dict[int, Callable[[ClientConduct, _Reader, int], None]] = {
    CONNECT: ClientConduct._look_at_connect,
    PUBLISH: ClientConduct._look_at_publish,
    PUBACK: ClientConduct._look_at_puback,
    PUBREC: ClientConduct._look_at_qos_2,
    PUBCOMP: ClientConduct._look_at_qos_2,
    SUBSCRIBE: ClientConduct._look_at_subscribe,
    PINGREQ: ClientConduct._look_at_ping,
    DISCONNECT: ClientConduct._look_at_disconnect,
}


def _read_connect(reader: _Reader) -> tuple[Connect, int]:
    _require(reader.text() == "MQTT", "another protocol than MQTT (MQTT-3.1.2-1)")
    level, flags, keepalive = reader.byte(), reader.byte(), reader.short()
    _require(level in (4, 5), f"protocol level {level}")
    expiry, maximum = _read_connect_properties(reader.take(reader.variable())) if level == 5 else (None, None)
    client_id = reader.text()
    will_topic = will_payload = username = password = None
    if flags & 4:
        reader.take(reader.variable() if level == 5 else 0)
        will_topic, will_payload = reader.text(), reader.binary()
    if flags & 128:
        username = reader.text()
    if flags & 64:
        password = reader.binary().decode()
    clean = bool(flags & 2)
    connect = Connect(level, client_id, clean, keepalive, username, password, will_topic, will_payload, expiry, maximum)
    return connect, flags


def _read_connect_properties(data: bytes) -> tuple[int | None, int | None]:
    reader, found = _Reader(data), dict[int, int]()
    while not reader.is_over():
        name = reader.byte()
        _require(name in (_SESSION_EXPIRY, _RECEIVE_MAXIMUM), f"CONNECT property {name:#04x}, which ours does not need")
        _require(name not in found, f"CONNECT property {name:#04x} twice (MQTT-3.1.2-24)")
        found[name] = int.from_bytes(reader.take(4 if name == _SESSION_EXPIRY else 2), "big")
    return found.get(_SESSION_EXPIRY), found.get(_RECEIVE_MAXIMUM)


def _read_publish_properties(data: bytes) -> None:
    try:
        plain_mqtt.read_publish_properties(data)
    except (plain_mqtt.Unreadable, struct.error) as error:
        raise _Wrong("properties that a PUBLISH of ours cannot have (3.3.2.3)") from error
