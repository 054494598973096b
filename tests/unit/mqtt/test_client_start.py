from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from dataclasses import replace

import pytest
from paho.mqtt.client import Client

from core.errors import BrokerRefusedError, BrokerUnavailableError
from core.mqtt.message import Subscription
from core.mqtt.options import MqttOptions, TlsOptions, WillOptions
from core.observability.events import BrokerConnected, SubscriptionRefused
from tests.mqtt_harness import Running, running
from tests.scripted_broker import ScriptedBroker

BAD_PASSWORD = {"5": 0x86, "3.1.1": 4}
NOT_AUTHORIZED = {"5": 0x87, "3.1.1": 5}
UNAVAILABLE = {"5": 0x88, "3.1.1": 3}


async def ended_with(it: Running) -> BaseException | None:
    await asyncio.wait([it.task])
    return it.task.exception()


async def test_pitfall_04_the_session_is_kept_from_connection_to_connection(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router"):
        (await broker.next_session()).cut()
        await broker.next_session()
    assert [each.clean for each in broker.connects] == [False, False]
    assert {each.client_id for each in broker.connects} == {"router"}
    if options.protocol == "5":
        assert {each.session_expiry for each in broker.connects} == {7 * 24 * 3600}


async def test_stopping_leaves_the_session_with_the_broker(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(options, "a", client_id="router"):
        session = await broker.next_session()
    await session.end()
    assert session.said_disconnect


async def test_name_password_keepalive_and_will_are_sent(broker: ScriptedBroker, options: MqttOptions) -> None:
    will = WillOptions("routers/gone", b"router", qos=1)
    spoken = replace(options, username="pump", password="secret", keepalive=17, will=will)
    async with running(spoken, client_id="router"):
        connect = (await broker.next_session()).connect
    assert (connect.username, connect.password, connect.keepalive) == ("pump", "secret", 17)
    assert (connect.will_topic, connect.will_payload) == ("routers/gone", b"router")


async def test_pitfall_06_the_broker_is_told_how_much_may_be_in_flight(
    broker: ScriptedBroker, options_5: MqttOptions
) -> None:
    async with running(replace(options_5, max_in_flight=7), client_id="router"):
        assert (await broker.next_session()).connect.receive_maximum == 7


async def test_all_filters_go_in_one_subscribe_at_qos_1_without_those_that_others_cover(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    wanted = [Subscription(f"a/{number}", 2) for number in range(300)] + [
        Subscription("b/#", 0),
        Subscription("b/+/c", 1),
        Subscription("$share/g/c", 1),
    ]
    async with running(options, subscriptions=wanted, client_id="router") as it:
        session = await broker.next_session()
        filters = dict((await session.next_subscribe()).filters)
        assert (await it.told.next(BrokerConnected)).subscriptions == 302
        assert session.subscribes.empty()
    assert filters == {f"a/{number}": 1 for number in range(300)} | {"b/#": 1, "$share/g/c": 1}


async def test_pitfall_07_a_subscription_refused_at_the_start_ends_the_start(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    broker.suback = lambda topic_filter, qos: 0x80 if topic_filter == "secret/#" else qos
    async with running(options, "a", "secret/#", client_id="router", wait=False) as it:
        with pytest.raises(BrokerRefusedError, match=r"'secret/#'.*access list"):
            await it.client.connected(20)
        assert (await it.told.next(SubscriptionRefused)).topic_filter == "secret/#"
        assert isinstance(await ended_with(it), BrokerRefusedError)


async def test_pitfall_07_a_subscription_refused_later_is_told_and_asked_for_again(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", "secret/#", client_id="router") as it:
        broker.suback = lambda topic_filter, qos: 0x80 if topic_filter == "secret/#" else qos
        (await broker.next_session()).cut()
        assert (await it.told.next(SubscriptionRefused)).topic_filter == "secret/#"
        session = await broker.next_session()
        await it.told.next(BrokerConnected)
        assert (await it.told.next(BrokerConnected)).subscriptions == 1
        session.publish("a", b"still served", mid=1)
        await it.handler.has_begun(b"still served")
        broker.suback = lambda _, qos: qos
        session.cut()
        assert (await it.told.next(BrokerConnected)).subscriptions == 2


async def test_pitfall_07_a_broker_that_grants_less_than_was_asked_for_is_reported(
    broker: ScriptedBroker, options: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    broker.suback = lambda topic_filter, qos: 0 if topic_filter == "poor/#" else qos
    async with running(options, "a", "poor/#", client_id="router"):
        pass
    assert "grants only QoS 0 for poor/#" in caplog.text
    assert "QoS 0 for a:" not in caplog.text


@pytest.mark.parametrize("refusal", [BAD_PASSWORD, NOT_AUTHORIZED])
async def test_a_refused_password_ends_the_start_at_once_and_says_what_to_do(
    broker: ScriptedBroker, options: MqttOptions, refusal: dict[str, int]
) -> None:
    broker.connack = refusal[options.protocol]
    spoken = replace(options, username="pump", password="wrong")
    async with running(spoken, "a", client_id="router", wait=False) as it:
        with pytest.raises(BrokerRefusedError) as caught:
            await it.client.connected(20)
    for part in (options.address, "'router'", "'pump'", "MQTT_PASSWORD"):
        assert part in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_a_password_refused_later_is_tried_again(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(options, "a", client_id="router") as it:
        broker.connack = BAD_PASSWORD[options.protocol]
        (await broker.next_session()).cut()
        for _ in range(4):
            await broker.next_attempt()
        broker.connack = 0
        await broker.next_session()
        assert not it.task.done()


async def test_a_broker_that_is_busy_at_the_start_is_waited_for(broker: ScriptedBroker, options: MqttOptions) -> None:
    broker.connack = UNAVAILABLE[options.protocol]
    async with running(options, "a", client_id="router", wait=False) as it:
        for _ in range(2):
            await broker.next_attempt()
        broker.connack = 0
        await it.client.connected(20)


async def test_a_broker_that_is_not_there_is_waited_for_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = ScriptedBroker()
    options = MqttOptions(host=late.host, port=late.port)
    with caplog.at_level(logging.WARNING, "routemq.mqtt"):
        async with running(options, "a", client_id="router", wait=False) as it:
            with pytest.raises(BrokerUnavailableError, match=f"{options.address}.*MQTT_BROKER"):
                await it.client.connected(0.2)
            async with late:
                await it.client.connected(20)
    assert f"waiting for MQTT broker at {options.address}" in caplog.text


async def test_a_broker_that_hangs_up_before_connack_is_told_from_one_that_is_slow(
    broker: ScriptedBroker, options: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    broker.answers_connect = False
    async with running(options, "a", client_id="router", wait=False) as it:
        await broker.next_attempt()
        await broker.stop()
        with pytest.raises(BrokerUnavailableError):
            await it.client.connected(0.2)
    assert "before CONNACK" in caplog.text


async def test_a_broker_that_answers_nothing_is_given_up_and_tried_again(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    broker.answers_subscribe = False
    async with running(replace(options, answer_timeout=0.1), "a", client_id="router", wait=False) as it:
        await (await broker.next_session()).end()
        broker.answers_subscribe, broker.answers_connect = True, False
        await broker.next_attempt()
        await broker.next_attempt()
        broker.answers_connect = True
        await it.client.connected(20)


async def test_a_connection_made_after_it_was_stopped_is_closed_again(
    broker: ScriptedBroker, options: MqttOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_connect, connected = threading.Event(), asyncio.Event()
    loop, create = asyncio.get_running_loop(), Client._create_socket

    def create_late(paho: Client) -> object:
        loop.call_soon_threadsafe(connected.set)
        may_connect.wait(20)
        return create(paho)

    monkeypatch.setattr(Client, "_create_socket", create_late)
    async with running(options, "a", client_id="router", wait=False) as it:
        await connected.wait()
        await it.client.stop(0)
        await it.task
        may_connect.set()
        await broker.next_hangup()


async def test_stopping_while_it_waits_for_the_broker_ends_it(broker: ScriptedBroker) -> None:
    options = MqttOptions(host=broker.host, port=broker.port)
    broker.answers_connect = False
    async with running(options, "a", client_id="router", wait=False) as it:
        await broker.next_attempt()
        await it.client.stop(0)
        await asyncio.wait_for(it.task, 5)
        with pytest.raises(BrokerUnavailableError, match="stopped"):
            await it.client.connected(1)


async def test_stopping_does_not_wait_for_tls_files_that_are_still_being_read(broker: ScriptedBroker) -> None:
    reading, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class SlowTls(TlsOptions):
        def context(self) -> ssl.SSLContext:
            loop.call_soon_threadsafe(reading.set)
            go_on.wait(20)
            return super().context()

    options = MqttOptions(host=broker.host, port=broker.port, tls=SlowTls())
    try:
        async with running(options, "a", client_id="router", wait=False) as it:
            await asyncio.wait_for(reading.wait(), 20)
            await it.client.stop(0)
            await asyncio.wait_for(asyncio.shield(it.task), 5)
    finally:
        go_on.set()
