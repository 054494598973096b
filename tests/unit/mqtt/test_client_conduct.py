"""That the strict broker is strict: clients that are broken, each in its own way, and what is said about them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from paho.mqtt.reasoncodes import ReasonCode

from core.mqtt import connection as connection_module
from core.mqtt.acknowledger import Acknowledger, Arrival
from core.mqtt.connection import Connection
from core.mqtt.message import Subscription
from core.mqtt.options import MqttOptions
from tests.client_conduct import CONNECT, DISCONNECT, PINGREQ, PUBACK, PUBLISH, SUBSCRIBE
from tests.fuzz.plain_mqtt import write_binary, write_packet, write_variable
from tests.mqtt_harness import Handler, running
from tests.scripted_broker import ScriptedBroker

# ── our client, with one part of it broken ───────────────────────────────────────────────────────────


def acknowledges_on_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = Acknowledger.arrived

    def acknowledge(self: Acknowledger, mid: int) -> Arrival:
        self._send(mid)
        return arrived(self, mid)

    monkeypatch.setattr(Acknowledger, "arrived", acknowledge)


def acknowledges_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def settle(self: Acknowledger, arrival: Arrival, *, handled: bool) -> None:
        self._send(arrival.mid)

    monkeypatch.setattr(Acknowledger, "settle", settle)


def acknowledges_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Acknowledger.settle

    def settle_twice(self: Acknowledger, arrival: Arrival, *, handled: bool) -> None:
        settle(self, arrival, handled=handled)
        self._send(arrival.mid)

    monkeypatch.setattr(Acknowledger, "settle", settle_twice)


def subscribes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe_all = Connection.subscribe_all

    async def one_by_one(self: Connection, subscriptions: Sequence[Subscription]) -> list[ReasonCode]:
        return [code for each in subscriptions for code in await subscribe_all(self, [each])]

    monkeypatch.setattr(Connection, "subscribe_all", one_by_one)


def starts_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_session(monkeypatch, lambda session: session.update(clean_start=True))


def bounds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_session(monkeypatch, lambda session: delattr(session["properties"], "ReceiveMaximum"))


def keeps_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    _change_session(monkeypatch, lambda session: delattr(session["properties"], "SessionExpiryInterval"))


def _change_session(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object]) -> None:
    session_of = connection_module._session

    def changed(options: MqttOptions) -> dict[str, Any]:
        session = session_of(options)
        change(session)
        return session

    monkeypatch.setattr(connection_module, "_session", changed)


BROKEN: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    acknowledges_on_arrival: "PUBACK 1 before its jobs are stored",
    acknowledges_in_any_order: "PUBACK 2 before 1, which came earlier",
    acknowledges_twice: "PUBACK 1 of what was not sent, or is acknowledged",
    subscribes_one_by_one: "a second SUBSCRIBE",
    starts_clean: "a clean start",
    bounds_nothing: "no Receive Maximum",
    keeps_no_session: "no session expiry",
}


@pytest.mark.parametrize("receive", ["fast", "stock"])
@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
async def test_a_client_of_ours_that_is_broken_fails_its_test(
    monkeypatch: pytest.MonkeyPatch, receive: Literal["fast", "stock"], breaks: Callable[[pytest.MonkeyPatch], None]
) -> None:
    breaks(monkeypatch)
    with pytest.raises(AssertionError, match=BROKEN[breaks]):
        await _two_messages(receive)


async def _two_messages(receive: Literal["fast", "stock"]) -> None:
    """They are handled in the wrong order, which the client has to make good."""
    handler = Handler()
    async with ScriptedBroker() as broker:
        broker.may_acknowledge = handler.ended.__contains__
        options = MqttOptions(host=broker.host, port=broker.port, receive=receive)
        async with running(options, "a", "b", client_id="router", handler=handler) as it:
            session = await broker.next_session()
            for mid, payload in ((1, b"1"), (2, b"2")):
                session.publish("a", payload, mid=mid)
            await handler.has_begun(b"1", b"2")
            for payload in (b"2", b"1"):
                handler.release(payload)
                await handler.has_ended(payload)
            assert sorted([await session.next_puback() for _ in range(2)]) == [1, 2]
            await it.client.publish("reply", b"x", qos=1)
        await session.end()


@pytest.mark.parametrize("receive", ["fast", "stock"])
async def test_one_that_is_whole_passes(receive: Literal["fast", "stock"]) -> None:
    await _two_messages(receive)


# ── bytes that no client may send ────────────────────────────────────────────────────────────────────


def connect(
    *, level: int = 5, flags: int = 0, keepalive: int = 60, client_id: str = "router", protocol: str = "MQTT",
    properties: bytes = b"\x11\x00\x00\x00\x3c\x21\x00\x0a", rest: bytes = b"", first: int = CONNECT << 4,
) -> bytes:  # fmt: skip
    body = write_binary(protocol.encode()) + struct.pack("!BBH", level, flags, keepalive)
    body += write_variable(len(properties)) + properties if level == 5 else b""
    return write_packet(first, body + write_binary(client_id.encode()) + rest)


def subscribe(*filters: str, options: int = 1, mid: int = 1, first: int = SUBSCRIBE << 4 | 2) -> bytes:
    body = (
        struct.pack("!H", mid) + b"\x00" + b"".join(write_binary(each.encode()) + bytes([options]) for each in filters)
    )
    return write_packet(first, body)


def publish(topic: bytes = b"a", *, first: int = PUBLISH << 4, mid: bytes = b"", rest: bytes = b"\x00x") -> bytes:
    return write_packet(first, write_binary(topic) + mid + rest)


def puback(mid: int, rest: bytes = b"") -> bytes:
    return write_packet(PUBACK << 4, struct.pack("!H", mid) + rest)


PING, GOODBYE = bytes([PINGREQ << 4, 0]), bytes([DISCONNECT << 4, 0])
QOS_1 = PUBLISH << 4 | 2


@pytest.mark.parametrize(
    ("packets", "rule"),
    [
        ([PING], "CONNECT comes first"),
        ([connect(), connect()], "CONNECT comes first, and once"),
        ([connect(first=0x12)], "reserved flags"),
        ([connect(protocol="MQTt")], "another protocol"),
        ([connect(level=3)], "protocol level 3"),
        ([connect(flags=1)], "reserved flag of CONNECT"),
        ([connect(flags=2)], "clean start"),
        ([connect(flags=0x20)], "without a will"),
        ([connect(flags=0x08)], "without a will"),
        ([connect(flags=0x1C, rest=b"\x00\x00\x01w\x00\x00")], "a will of QoS 3"),
        ([connect(level=4, flags=0x40, rest=b"\x00\x01p")], "a password without a name"),
        ([connect(flags=0x80)], "shorter than its parts"),
        ([connect(rest=b"\x00")], "longer than its parts"),
        ([connect(keepalive=0)], "no keepalive"),
        ([connect(client_id="")], "no client id"),
        ([connect(properties=b"\x21\x00\x0a")], "no session expiry"),
        ([connect(properties=b"\x11\x00\x00\x00\x3c")], "no Receive Maximum"),
        ([connect(properties=b"\x21\x00\x0a\x21\x00\x0a")], "twice"),
        ([connect(properties=b"\x17\x01")], "which ours does not need"),
        ([connect(), subscribe("a"), subscribe("b", mid=2)], "a second SUBSCRIBE"),
        ([connect(), subscribe("a", first=SUBSCRIBE << 4)], "reserved flags"),
        ([connect(), subscribe("a", mid=0)], "a packet identifier of 0"),
        ([connect(), subscribe()], "without a filter"),
        ([connect(), subscribe("a/b", "a/#")], "covered by another filter"),
        ([connect(), subscribe("a/b#")], "no topic filter"),
        ([connect(), subscribe("a", options=2)], "QoS 2 is asked for"),
        ([connect(), subscribe("a", options=0x41)], "reserved bits of a subscription"),
        ([connect(), subscribe("a", options=0x31)], "retain handling"),
        ([connect(), subscribe("$share/g/a", options=5)], "No Local"),
        ([connect(), subscribe("$share//a")], "names no group"),
        ([connect(), publish(first=PUBLISH << 4 | 6, mid=b"\x00\x01")], "QoS 3"),
        ([connect(), publish(first=PUBLISH << 4 | 8)], "says to be a duplicate"),
        ([connect(), publish(b"a/+")], "no topic"),
        ([connect(), publish(b"")], "no topic"),
        ([connect(), publish(b"\xff")], "not UTF-8"),
        ([connect(), publish(b"a\0")], "NUL"),
        ([connect(), publish(first=QOS_1, mid=b"\x00\x00")], "a packet identifier of 0"),
        ([connect(), *[publish(first=QOS_1, mid=b"\x00\x07")] * 2], "packet identifier 7 is in use"),
        ([connect(), publish(rest=b"\x03\x23\x00\x01x")], "properties that a PUBLISH"),
        ([connect(), puback(7)], "PUBACK 7 of what was not sent"),
        ([connect(), write_packet(PINGREQ << 4, b"x")], "longer than its parts"),
        ([connect(), bytes([PINGREQ << 4, 0x80, 0x00])], "more bytes than it needs"),
        ([connect(), bytes([0x62, 2, 0, 1])], "packet type 6 is none"),
        ([connect(), bytes([0xA2, 2, 0, 1])], "packet type 10 is none"),
        ([connect(), write_packet(DISCONNECT << 4, b"\x81")], "a DISCONNECT with an error"),
        ([connect(), GOODBYE + PING], "bytes follow DISCONNECT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_is_said(packets: list[bytes], rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        await _talk(packets)


@pytest.mark.parametrize(
    "packets",
    [
        [connect(), subscribe("a/#", "$share/g/b", "+/c"), PING, GOODBYE],
        [connect(level=4), PING, GOODBYE],
        [connect(flags=0xC0, rest=b"\x00\x04pump\x00\x01p"), write_packet(DISCONNECT << 4, b"\x00\x00")],
        [connect(flags=0x2C, rest=b"\x00\x00\x01w\x00\x03bye"), publish(), publish(first=QOS_1, mid=b"\x00\x01")],
    ],
    ids=["5", "3.1.1", "name and password", "will"],
)
async def test_what_is_right_passes(packets: list[bytes]) -> None:
    await _talk(packets)


async def _talk(packets: list[bytes]) -> None:
    async with ScriptedBroker() as broker:
        broker.answers_publish = False
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        writer.write(b"".join(packets))
        writer.write_eof()
        await reader.read()
        writer.close()
        await broker.next_hangup()
