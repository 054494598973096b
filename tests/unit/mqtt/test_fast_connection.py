"""What reading past paho must not change, and what it is for. The rest: every other test, which runs on both."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from paho.mqtt.client import Client

from core.errors import BrokerUnavailableError
from core.mqtt import fast_connection
from core.mqtt.connection import Connection
from core.mqtt.fast_connection import FastConnection, obstacle
from core.mqtt.message import IncomingMessage
from core.mqtt.options import MqttOptions, TlsOptions
from core.observability.events import BrokerLost
from tests.client_conduct import DISCONNECT, PUBLISH
from tests.mqtt_harness import Handler, running
from tests.scripted_broker import ScriptedBroker

SUBSCRIBE = 8


@pytest.fixture
def fast_5(broker: ScriptedBroker) -> MqttOptions:
    return MqttOptions(host=broker.host, port=broker.port)


async def handle_at_once(message: IncomingMessage) -> None:
    pass


async def test_pitfall_05_pubacks_of_one_turn_of_the_loop_are_one_write(
    broker: ScriptedBroker, fast_5: MqttOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    send = Client._sock_send

    def noted_send(paho: Client, data: bytes) -> int:
        written.append(bytes(data))
        return send(paho, data)

    monkeypatch.setattr(Client, "_sock_send", noted_send)
    async with running(fast_5, "a", client_id="router", handle=handle_at_once):
        session = await broker.next_session()
        for mid in range(1, 51):
            session.conduct.was_sent(mid, b"x")
        # In one write: in fifty, TCP would hold back what exceeds its first window.
        session.writer.write(b"".join(b"\x32\x07\x00\x01a" + mid.to_bytes(2, "big") + b"\x00x" for mid in range(1, 51)))
        assert [await session.next_puback() for _ in range(50)] == list(range(1, 51))
        pubacks = [each for each in written if each[0] == 0x40]
    assert pubacks == [b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in range(1, 51))]


async def test_pubacks_wait_for_the_rest_of_what_is_being_written(broker: ScriptedBroker, options: MqttOptions) -> None:
    large = bytes(20_000_000)
    async with running(options, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        await session.next_subscribe()
        session.stop_reading()
        publishing = asyncio.create_task(it.client.publish("reply", large, qos=1))
        for mid in (1, 2):
            session.publish("a", str(mid).encode(), mid=mid)
        await it.handler.has_ended(b"1", b"2")
        session.go_on_reading()
        await publishing
        assert (await session.next_publish()).payload == large
        assert [await session.next_puback() for _ in range(2)] == [1, 2]
        assert it.told.count(BrokerLost) == 0


async def test_a_socket_that_takes_no_pubacks_gets_them_later(
    broker: ScriptedBroker, fast_5: MqttOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = iter([0, 3, 2])
    send = Client._sock_send

    def reluctant(paho: Client, data: bytes) -> int:
        part = data[: next(room, None)]
        if not part:
            raise BlockingIOError
        return send(paho, part)

    async with running(fast_5, "a", client_id="router", handler=Handler(hold=False)):
        session = await broker.next_session()
        await session.next_subscribe()
        monkeypatch.setattr(Client, "_sock_send", reluctant)
        for mid in range(1, 4):
            session.publish("a", b"x", mid=mid)
            assert await session.next_puback() == mid


async def test_a_socket_that_breaks_while_pubacks_are_written_is_a_loss(
    broker: ScriptedBroker, fast_5: MqttOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(paho: Client, data: bytes) -> int:
        raise BrokenPipeError

    async with running(fast_5, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        with monkeypatch.context() as broken_socket:
            broken_socket.setattr(Client, "_sock_send", broken)
            session.publish("a", b"x", mid=1)
            assert "broke off" in (await it.told.next(BrokerLost)).reason
        again = await broker.next_session()
        again.publish("a", b"x", mid=1, duplicate=True)
        assert await again.next_puback() == 1


async def test_an_error_of_the_library_while_pubacks_are_written_is_a_loss(
    broker: ScriptedBroker, fast_5: MqttOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(paho: Client) -> bool:
        raise RuntimeError("out of order")

    async with running(fast_5, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        with monkeypatch.context() as broken_library:
            broken_library.setattr(Client, "want_write", broken)
            session.publish("a", b"x", mid=1)
            assert "out of order" in (await it.told.next(BrokerLost)).reason
        await broker.next_session()


@pytest.mark.parametrize(
    ("first", "body", "reason"),
    [
        (6, b"\x00\x01a\x00", "QoS 3"),
        (0, b"\x00\x00\x03\x23\x00\x01", "topic alias"),
        (2, b"\x00\x01a\x00\x00\x00", "without a packet identifier"),
        (0, b"\x00\x09a", "longer than the whole"),
    ],
)
async def test_a_publish_that_cannot_be_ends_the_connection_with_the_reason(
    broker: ScriptedBroker, fast_5: MqttOptions, first: int, body: bytes, reason: str
) -> None:
    async with running(fast_5, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        session.publish("a", b"before", mid=1)
        session.send(PUBLISH, body, flags=first)
        session.publish("a", b"behind", mid=2)
        assert reason in (await it.told.next(BrokerLost)).reason
        again = await broker.next_session()
        for mid, payload in ((1, b"before"), (2, b"behind")):
            again.publish("a", payload, mid=mid, duplicate=True)
        assert [await again.next_puback() for _ in range(2)] == [1, 2]
    assert b"before" in it.handler.ended


async def test_a_packet_that_only_clients_send_ends_the_connection(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        (await broker.next_session()).send(SUBSCRIBE, b"\x00\x01\x00\x01a\x00", flags=2)
        assert "packet that cannot be" in (await it.told.next(BrokerLost)).reason
        await broker.next_session()


async def test_what_is_no_broker_is_told_apart_before_the_answer_is_overdue(
    broker: ScriptedBroker, fast_5: MqttOptions
) -> None:
    broker.greeting = b"\x00\x00"
    async with running(replace(fast_5, answer_timeout=600), client_id="router", wait=False) as it:
        for _ in range(2):
            await broker.next_hangup()
        with pytest.raises(BrokerUnavailableError, match=r"sent a packet of type 0.*before CONNACK"):
            await it.client.connected(0)


async def test_nothing_behind_a_disconnect_is_handled(broker: ScriptedBroker, options_5: MqttOptions) -> None:
    async with running(options_5, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        session.publish("a", b"before", mid=1)
        session.send(DISCONNECT, b"\x8b\x00")
        session.publish("a", b"behind", mid=2)
        assert "Server shutting down" in (await it.told.next(BrokerLost)).reason
        await broker.next_session()
    assert it.handler.began == [b"before"]


@pytest.mark.parametrize(
    ("missing", "named"),
    [({"_NEEDED": ("_not_there",)}, "_not_there"), ({"_NEEDED_OF_IN_PACKET": {"not there"}}, "not there")],
)
async def test_pitfall_05_without_the_private_names_the_stock_way_is_taken_and_told(
    broker: ScriptedBroker,
    fast_5: MqttOptions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: dict[str, object],
    named: str,
) -> None:
    for name, value in missing.items():
        monkeypatch.setattr(fast_connection, name, value)
    async with running(fast_5, "a", client_id="router", handler=Handler(hold=False)) as it:
        assert type(it.client._connection) is Connection
        session = await broker.next_session()
        session.publish("a", b"1", mid=1)
        assert await session.next_puback() == 1
    assert named in caplog.text
    assert "slower" in caplog.text


@pytest.mark.parametrize(
    ("fields", "is_fast"),
    [
        ({}, True),
        ({"tls": TlsOptions()}, True),
        ({"receive": "stock"}, False),
        ({"transport": "websockets"}, False),
    ],
)
async def test_which_way_is_taken(
    fast_5: MqttOptions, caplog: pytest.LogCaptureFixture, fields: dict[str, object], is_fast: bool
) -> None:
    options = replace(fast_5, **fields)  # type: ignore[arg-type]
    async with running(options, client_id="router", wait=False) as it:
        assert (it.client._connection_type is FastConnection) is is_fast
    assert "slower" not in caplog.text


def test_pitfall_05_paho_still_has_what_the_fast_way_needs() -> None:
    assert obstacle() is None
