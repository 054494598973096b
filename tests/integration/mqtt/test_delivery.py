"""Against each broker there is, in both versions of MQTT."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest
from paho.mqtt.client import Client

from core.mqtt.client import MqttClient
from core.mqtt.message import IncomingMessage, MessageProperties
from core.mqtt.options import MqttOptions, WillOptions
from core.mqtt.topic import share
from core.observability.events import BrokerConnected, BrokerLost
from tests.mqtt_harness import Handler, running
from tests.servers.iotcore import IotcoreProcess
from tests.servers.kinds import BrokerServer
from tests.servers.mosquitto import MosquittoProcess


def of(broker: BrokerServer) -> MqttOptions:
    return MqttOptions(host=broker.host, port=broker.port, username=broker.username, password=broker.password)


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


@asynccontextmanager
async def publishing(options: MqttOptions, client_id: str) -> AsyncIterator[MqttClient]:
    async with running(replace(options, session_expiry=0), client_id=f"{client_id}-publisher") as it:
        yield it.client


async def publish_all(client: MqttClient, topic: str, payloads: list[bytes]) -> None:
    for payload in payloads:
        await client.publish(topic, payload, qos=1)


async def test_pitfall_02_handlers_that_end_in_any_order_do_not_cost_the_connection(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    handler = Handler()
    payloads = numbered(300)
    async with (
        running(options, f"{unique}/#", client_id=client_id, handler=handler) as it,
        publishing(options, client_id) as publisher,
    ):
        sending = asyncio.create_task(publish_all(publisher, f"{unique}/a", payloads))
        while len(handler.ended) < 300:
            waiting = [each for each in handler.began if each not in handler.ended]
            random.shuffle(waiting)
            handler.release(*waiting)
            await (handler.has_ended(*waiting) if waiting else handler.has_begun_count(len(handler.began) + 1))
        await sending
        assert sorted(handler.ended, key=int) == payloads
        assert it.told.count(BrokerLost) == 0


async def test_messages_are_begun_in_the_order_in_which_they_were_published(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    handler = Handler(hold=False)
    async with (
        running(options, f"{unique}/#", client_id=client_id, handler=handler),
        publishing(options, client_id) as publisher,
    ):
        await publish_all(publisher, f"{unique}/a", numbered(100))
        await handler.has_ended(*numbered(100))
    assert handler.began == numbered(100)


async def test_pitfall_01_a_router_that_dies_gets_every_unacknowledged_message_again(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    payloads = numbered(20)
    dying, next_one = Handler(), Handler(hold=False)
    async with publishing(options, client_id) as publisher:
        async with running(options, f"{unique}/#", client_id=client_id, handler=dying) as it:
            await publish_all(publisher, f"{unique}/a", payloads)
            await dying.has_begun(*payloads)
            dying.release(b"0", b"2")
            await dying.has_ended(b"0", b"2")
            await it.kill()
        async with running(options, f"{unique}/#", client_id=client_id, handler=next_one):
            await next_one.has_ended(*payloads[1:])


async def test_pitfall_04_what_is_published_while_the_router_is_away_waits_for_it(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    handler = Handler(hold=False)
    async with publishing(options, client_id) as publisher:
        async with running(options, f"{unique}/#", client_id=client_id):
            pass
        await publish_all(publisher, f"{unique}/a", numbered(30))
        async with running(options, f"{unique}/#", client_id=client_id, handler=handler) as it:
            assert (await it.told.next(BrokerConnected)).session_present
            await handler.has_ended(*numbered(30))


async def test_a_shared_subscription_divides_the_messages(options: MqttOptions, client_id: str, unique: str) -> None:
    handler = Handler(hold=False)
    topic_filter = share(unique, f"{unique}/#")
    async with AsyncExitStack() as stack:
        for number in (1, 2):
            own = f"{client_id}-{number}"
            await stack.enter_async_context(running(options, topic_filter, client_id=own, handler=handler))
        publisher = await stack.enter_async_context(publishing(options, client_id))
        await publish_all(publisher, f"{unique}/a", numbered(50))
        await handler.has_ended(*numbered(50))
        # One that was delivered twice would come before this one, on one of the two connections.
        await publish_all(publisher, f"{unique}/last", [b"last one", b"last two"])
        await handler.has_ended(b"last one", b"last two")
    assert len(handler.ended) == 52


async def test_pitfall_09_a_flood_stays_bounded_and_the_connection_outlives_its_keepalive(
    options: MqttOptions, client_id: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings: asyncio.Queue[Client] = asyncio.Queue()
    ping = Client._send_pingreq

    def noted_ping(paho: Client) -> object:
        if paho.keepalive == 1:
            pings.put_nowait(paho)
        return ping(paho)

    monkeypatch.setattr(Client, "_send_pingreq", noted_ping)
    handler = Handler()
    limited = replace(options, max_in_flight=4, keepalive=1)
    async with (
        running(limited, f"{unique}/#", client_id=client_id, handler=handler) as it,
        publishing(options, client_id) as publisher,
    ):
        for payload in numbered(2000):
            await publisher.publish(f"{unique}/a", payload.ljust(2000), qos=0)
        await publisher.publish(f"{unique}/a", b"first", qos=1)
        for _ in range(3):
            await asyncio.wait_for(pings.get(), 20)
        assert len(handler.began) == 4
        handler.release_all()
        await handler.has_begun_count(200)
        await publisher.publish(f"{unique}/a", b"last", qos=1)
        await handler.has_ended(b"last")
        assert handler.most_at_once <= 4
        assert it.told.count(BrokerLost) == 0


async def test_what_a_device_sends_along_arrives(
    broker: BrokerServer, client_id: str, unique: str, receive: Literal["fast", "stock"]
) -> None:
    options = replace(of(broker), receive=receive)
    handler = Handler(hold=False)
    properties = MessageProperties("text/plain", "reply/here", b"\x00\x01", user_properties=(("k", "v"),))
    async with (
        running(options, f"{unique}/#", client_id=client_id, handler=handler),
        publishing(options, client_id) as publisher,
    ):
        await publisher.publish(f"{unique}/a", b"x", qos=1, properties=properties)
        await handler.has_ended(b"x")
    assert handler.messages[0].properties == properties


async def test_the_will_is_published_for_one_that_dies_and_not_for_one_that_stops(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    handler = Handler(hold=False)

    def mortal(name: str) -> MqttOptions:
        return replace(options, session_expiry=0, will=WillOptions(f"{unique}/gone", name.encode(), qos=1))

    async with running(options, f"{unique}/#", client_id=client_id, handler=handler):
        async with running(mortal("stopped"), client_id=f"{client_id}-1"):
            pass
        async with running(mortal("died"), client_id=f"{client_id}-2") as it:
            await it.kill()
        await handler.has_ended(b"died")
    assert handler.ended == [b"died"]


async def test_a_second_process_with_the_same_client_id_is_reported(
    broker: BrokerServer, client_id: str, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = of(broker)
    reported = asyncio.Event()
    watcher = logging.Handler(logging.ERROR)
    watcher.emit = lambda record: reported.set()  # type: ignore[method-assign]
    logging.getLogger("routemq.mqtt").addHandler(watcher)
    try:
        async with (
            running(options, f"{unique}/#", client_id=client_id),
            running(options, f"{unique}/#", client_id=client_id),
        ):
            await asyncio.wait_for(reported.wait(), 30)
    finally:
        logging.getLogger("routemq.mqtt").removeHandler(watcher)
    assert f"client id {client_id!r}" in caplog.text
    assert "MQTT_CLIENT_ID" in caplog.text


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_that_restarts_finds_us_again(
    restartable_broker: IotcoreProcess | MosquittoProcess, unique: str, protocol: str, receive: Literal["fast", "stock"]
) -> None:
    server = restartable_broker
    options = MqttOptions(
        receive=receive,
        host=server.host,
        port=server.port if protocol == "5" else server.port_311,
        protocol="5" if protocol == "5" else "3.1.1",
    )
    handler = Handler(hold=False)
    async with running(options, f"{unique}/#", client_id=unique, handler=handler) as it:
        await it.told.next(BrokerConnected)
        for payload in (b"1", b"2"):
            await asyncio.to_thread(server.restart)
            await it.told.next(BrokerConnected)
            await it.client.publish(f"{unique}/a", payload, qos=1)
            await handler.has_ended(payload)


async def test_a_broker_that_freezes_is_noticed_and_found_again(
    restartable_broker: IotcoreProcess | MosquittoProcess, unique: str, receive: Literal["fast", "stock"]
) -> None:
    server = restartable_broker
    options = MqttOptions(host=server.host, port=server.port, keepalive=1, answer_timeout=1, receive=receive)
    async with running(options, f"{unique}/#", client_id=unique) as it:
        await it.told.next(BrokerConnected)
        server.freeze()
        assert "does not answer" in (await it.told.next(BrokerLost)).reason
        server.thaw()
        await it.told.next(BrokerConnected)


async def test_a_handler_that_raises_gets_its_message_again(options: MqttOptions, client_id: str, unique: str) -> None:
    tries: list[bytes] = []
    accepted = asyncio.Event()

    async def handle(message: IncomingMessage) -> None:
        tries.append(message.payload)
        if len(tries) == 1:
            raise RuntimeError("the store is away")
        accepted.set()

    async with (
        running(options, f"{unique}/#", client_id=client_id, handle=handle),
        publishing(options, client_id) as publisher,
    ):
        await publisher.publish(f"{unique}/a", b"x", qos=1)
        await asyncio.wait_for(accepted.wait(), 20)
    assert tries == [b"x", b"x"]
