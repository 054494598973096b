from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from paho.mqtt.client import Client

from core.clock import Backoff
from core.errors import BrokerUnavailableError
from core.mqtt.client import MqttClient
from core.mqtt.message import Subscription
from core.mqtt.options import MqttOptions
from core.observability.events import BrokerConnected, BrokerLost, Events
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable
from tests.mqtt_harness import Handler, running
from tests.scripted_broker import PINGRESP, ScriptedBroker

TAKEN_OVER = 0x8E


class SkippingClock:
    """Notes how long it is asked to sleep, and sleeps no time at all."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: asyncio.Queue[float] = asyncio.Queue()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.put_nowait(seconds)


async def test_losing_the_broker_time_and_again_never_ends_it(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(options, "a", client_id="router", handler=Handler(hold=False)) as it:
        for mid in range(1, 6):
            session = await broker.next_session()
            await it.told.next(BrokerConnected)
            session.publish("a", b"x", mid=mid)
            assert await session.next_puback() == mid
            session.cut()
            lost = await it.told.next(BrokerLost)
            assert (lost.address, lost.client_id) == (options.address, "router")
        assert not it.task.done()


async def test_it_comes_back_when_the_broker_does(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(options, "a", client_id="router") as it:
        await broker.stop()
        for _ in range(3):
            await it.told.next(BrokerLost)
        assert not it.client.is_connected
        await it.told.next(BrokerConnected)
        await broker.start()
        await it.told.next(BrokerConnected)
        assert it.client.is_connected


async def test_it_comes_back_while_its_handlers_take_all_the_room(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(replace(options, max_in_flight=1, answer_timeout=2), "a", client_id="router") as it:
        session = await broker.next_session()
        await it.told.next(BrokerConnected)
        session.publish("a", b"waits for the broker", mid=1)
        await it.handler.has_begun(b"waits for the broker")
        session.cut()
        with pytest.raises(BrokerUnavailableError):
            await it.client.publish("reply", b"x", qos=1)
        async with asyncio.timeout(5):
            await it.told.next(BrokerConnected)
        await it.client.publish("reply", b"x", qos=1)


async def test_a_broker_that_no_longer_answers_is_noticed(broker: ScriptedBroker, options: MqttOptions) -> None:
    broker.answers_ping = False
    async with running(replace(options, keepalive=1), "a", client_id="router") as it:
        await (await broker.next_session()).next_ping()
        assert "does not answer" in (await it.told.next(BrokerLost)).reason
        await broker.next_session()


@pytest.mark.parametrize("receive", ["fast", "stock"])
def test_an_error_that_lies_behind_a_message_is_noticed(receive: Any) -> None:
    """uvloop, on which routers run, calls once for both of them, and never again."""

    async def play() -> None:
        async with ScriptedBroker() as broker:
            options = MqttOptions(host=broker.host, port=broker.port, receive=receive)
            async with running(options, "a", client_id="router", handler=Handler(hold=False)) as it:
                session = await broker.next_session()
                await it.told.next(BrokerConnected)
                await session.reset(b"\x30\x05\x00\x01a\x00x")
                await it.told.next(BrokerLost)
                await broker.next_session()

    uvloop.run(play())


async def test_bytes_that_are_no_mqtt_end_the_connection_and_not_the_client(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        session.writer.write(b"\x32\x03\x00\xffx")  # a PUBLISH whose topic is longer than itself
        await it.told.next(BrokerLost)
        await broker.next_session()


async def test_a_packet_that_never_ends_is_noticed(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(replace(options, keepalive=1), "a", client_id="router") as it:
        session = await broker.next_session()
        session.writer.write(b"\x32\xff\xff\xff\x7f\x00\x01a")  # the longest there is; PINGRESPs are taken for its rest
        assert "does not answer" in (await it.told.next(BrokerLost)).reason
        await broker.next_session()


@pytest.mark.parametrize("name", ["_packet_read", "loop_write", "loop_misc"])
async def test_an_error_inside_the_library_ends_the_connection_and_not_the_client(
    broker: ScriptedBroker, options: MqttOptions, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def broken(paho: Client) -> None:
        raise RuntimeError("out of order")

    broker.answers_publish = False
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        with monkeypatch.context() as broken_library:
            broken_library.setattr(Client, name, broken)
            session.send(PINGRESP, b"")
            publishing = asyncio.create_task(it.client.publish("probe", b"", qos=1))
            assert "out of order" in (await it.told.next(BrokerLost)).reason
            with pytest.raises(BrokerUnavailableError):
                await publishing
        await broker.next_session()


async def test_the_reason_that_the_broker_gives_is_told(broker: ScriptedBroker, options_5: MqttOptions) -> None:
    async with running(options_5, "a", client_id="router") as it:
        (await broker.next_session()).disconnect(0x8B)
        assert "Server shutting down" in (await it.told.next(BrokerLost)).reason


async def test_retries_back_off_until_a_connection_has_lasted(broker: ScriptedBroker, options: MqttOptions) -> None:
    clock = SkippingClock()
    client = MqttClient(
        replace(options, reconnect_min=1, reconnect_max=16),
        client_id="router",
        subscriptions=[Subscription("a")],
        handle=Handler(),
        events=Events(),
        clock=clock,
        backoff=Backoff(1, 16),
    )
    task = asyncio.create_task(client.run())
    delays = []
    for _ in range(7):
        (await broker.next_session()).cut()
        delays.append(await clock.slept.get())
    lasting = await broker.next_session()
    await client.connected(20)
    await lasting.next_subscribe()
    # One exchange later it has taken note of the SUBACK, and so of the time.
    await client.publish("probe", b"", qos=1)
    clock.time += 17
    lasting.cut()
    delays.append(await clock.slept.get())
    await client.stop(0)
    await task
    assert all(later > earlier for earlier, later in pairwise(delays[:4]))
    assert all(12 <= delay <= 20 for delay in delays[4:7])
    assert delays[7] <= 1.25


async def test_a_client_id_in_use_elsewhere_is_named_and_not_fought_over(
    broker: ScriptedBroker, options_5: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(options_5, "a", client_id="router") as it:
        retries: deque[float] = deque()
        for _ in range(4):
            (await broker.next_session()).disconnect(TAKEN_OVER)
            retries.append((await it.told.next(BrokerLost)).retry_in)
        assert retries[-1] > retries[0]
    assert f"client id 'router' is in use by another process at {options_5.address}" in caplog.text
    assert "MQTT_CLIENT_ID" in caplog.text


async def test_a_client_id_in_use_elsewhere_is_suspected_where_the_broker_gives_no_reason(
    broker: ScriptedBroker, options: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(options, "a", client_id="router") as it:
        for _ in range(3):
            await it.told.next(BrokerConnected)
            assert "MQTT_CLIENT_ID" not in caplog.text
            (await broker.next_session()).cut()
            await it.told.next(BrokerLost)
        await it.told.next(BrokerConnected)
    assert "client id 'router' may be in use" in caplog.text


async def test_pitfall_10_a_connection_that_is_lost_leaves_no_unread_exception(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with running(options, "a", client_id="router") as it:
        for _ in range(3):
            session = await broker.next_session()
            session.publish("a", b"x", mid=1)
            await it.told.next(BrokerConnected)
            session.cut()
    assert unhandled == []


async def test_a_controller_that_publishes_while_the_broker_is_away_is_run_once_and_again_when_it_is_back(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    passes, begun, go_on = list[str](), asyncio.Event(), asyncio.Event()

    async def controller(client: Any) -> None:
        passes.append("dispatched")
        begun.set()
        await go_on.wait()
        await client.publish("reply", b"x", qos=1)

    async def record(*_: object) -> None:
        raise AssertionError("it has not failed")

    router = Router()
    router.on("a", controller)
    handler = MessageHandler(RouteTable([router]), events=Events(), record_failure=record)
    async with running(options, "a", client_id="router", handle=handler.handle) as it:
        handler.publisher = it.client
        (await broker.next_session()).publish("a", b"1", mid=1)
        await begun.wait()
        await broker.stop()
        for _ in range(2):
            await it.told.next(BrokerLost)
        go_on.set()
        for _ in range(2):
            await it.told.next(BrokerLost)
        assert passes == ["dispatched"]
        broker.on_connack = lambda session: session.publish("a", b"1", mid=1, duplicate=True)
        await broker.start()
        assert await (await broker.next_session()).next_puback() == 1
        assert passes == ["dispatched"] * 2
