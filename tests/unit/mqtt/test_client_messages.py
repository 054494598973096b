from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from core.errors import BrokerUnavailableError
from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties
from core.mqtt.options import MqttOptions
from core.observability.events import BrokerLost, MessageReceived
from tests.mqtt_harness import Handler, running
from tests.scripted_broker import ScriptedBroker, Session


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(1, count + 1)]


def publish_numbered(session: Session, count: int) -> None:
    for mid, payload in enumerate(numbered(count), start=1):
        session.publish("a", payload, mid=mid)


async def test_pitfall_01_nothing_is_acknowledged_before_its_handler_returns(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        session.publish("a", b"1", mid=11)
        await it.handler.has_begun(b"1")
        # Its answer would come after a PUBACK, had there been one.
        await it.client.publish("probe", b"", qos=1)
        assert session.pubacks.empty()
        it.handler.release(b"1")
        assert await session.next_puback() == 11


async def test_pitfall_02_pubacks_in_order_of_arrival_though_handlers_end_backwards(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    payloads = numbered(20)
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        for mid, payload in enumerate(payloads, start=1):
            session.publish("a", payload, mid=mid)
        await it.handler.has_begun(*payloads)
        for payload in reversed(payloads):
            it.handler.release(payload)
            await it.handler.has_ended(payload)
        assert [await session.next_puback() for _ in payloads] == list(range(1, 21))


async def test_qos_0_is_handled_and_never_acknowledged(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(options, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        session.publish("a", b"0")
        session.publish("a", b"1", mid=1)
        await it.handler.has_ended(b"0", b"1")
        assert await session.next_puback() == 1
        assert session.pubacks.empty()


async def test_pitfall_01_a_message_of_a_lost_connection_is_not_acknowledged_on_the_next(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        first = await broker.next_session()
        first.publish("a", b"old", mid=5)
        await it.handler.has_begun(b"old")
        first.cut()
        second = await broker.next_session()
        second.publish("a", b"new", mid=5)
        await it.handler.has_begun(b"new")
        it.handler.release(b"old")
        await it.handler.has_ended(b"old")
        await it.client.publish("probe", b"", qos=1)
        assert second.pubacks.empty()
        it.handler.release(b"new")
        assert await second.next_puback() == 5


async def test_pitfall_10_a_handler_that_raises_is_logged_and_its_message_comes_again(
    broker: ScriptedBroker, options: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(options, "a", client_id="router") as it:
        first = await broker.next_session()
        publish_numbered(first, 3)
        await it.handler.has_begun(*numbered(3))
        it.handler.release(b"3")
        it.handler.fail(b"2", RuntimeError("the store is gone"))
        await it.handler.has_ended(b"3")
        it.handler.release(b"1")
        assert await first.next_puback() == 1
        await first.end()
        assert first.said_disconnect
        assert first.pubacks.empty()
        second = await broker.next_session()
        second.publish("a", b"2", mid=2, duplicate=True)
        it.handler.release(b"2")
        assert await second.next_puback() == 2
    assert "the store is gone" in caplog.text
    assert "deliver it again" in caplog.text


async def test_a_qos_0_message_whose_handler_raises_is_reported(
    broker: ScriptedBroker, options: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    logged = asyncio.Event()
    watcher = logging.Handler()
    watcher.emit = lambda record: logged.set()  # type: ignore[method-assign]
    logging.getLogger("routemq.mqtt").addHandler(watcher)
    try:
        async with running(options, "a", client_id="router") as it:
            session = await broker.next_session()
            session.publish("a", b"1")
            await it.handler.has_begun(b"1")
            it.handler.fail(b"1", RuntimeError("too bad"))
            await asyncio.wait_for(logged.wait(), 20)
    finally:
        logging.getLogger("routemq.mqtt").removeHandler(watcher)
    assert "it is lost" in caplog.text


async def test_messages_that_come_with_connack_are_not_missed(broker: ScriptedBroker, options: MqttOptions) -> None:
    broker.on_connack = lambda session: publish_numbered(session, 50)
    async with running(options, "a", client_id="router", handler=Handler(hold=False)):
        session = await broker.next_session()
        assert [await session.next_puback() for _ in range(50)] == list(range(1, 51))


async def test_a_backlog_larger_than_the_bound_does_not_hide_the_suback(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    broker.on_connack = lambda session: publish_numbered(session, 100)
    async with running(replace(options, max_in_flight=1), "a", client_id="router") as it:
        session = await broker.next_session()
        assert it.client.is_connected
        assert it.handler.most_at_once == 1
        it.handler.release_all()
        assert [await session.next_puback() for _ in range(100)] == list(range(1, 101))
        assert it.handler.most_at_once == 1


@pytest.mark.parametrize("mids", [True, False], ids=["QoS 1", "QoS 0"])
async def test_pitfall_09_no_more_handlers_than_allowed_and_the_rest_stays_in_the_socket(
    broker: ScriptedBroker, options: MqttOptions, mids: bool
) -> None:
    payloads = numbered(500)
    async with running(replace(options, max_in_flight=4), "a", client_id="router") as it:
        session = await broker.next_session()
        for mid, payload in enumerate(payloads, start=1):
            session.publish("a", payload, mid=mid if mids else 0)
        await it.handler.has_begun_count(4)
        await session.writer.drain()
        for payload in payloads:
            await it.handler.has_begun(payload)
            assert it.told.count(MessageReceived) - len(it.handler.ended) <= 4
            it.handler.release(payload)
        await it.handler.has_ended(*payloads)
        assert it.handler.most_at_once == 4


async def test_pitfall_06_messages_that_wait_for_their_puback_count_as_in_flight(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(replace(options, max_in_flight=3), "a", client_id="router") as it:
        session = await broker.next_session()
        publish_numbered(session, 5)
        await it.handler.has_begun(b"1", b"2", b"3")
        it.handler.release(b"2", b"3")
        await it.handler.has_ended(b"2", b"3")
        # Whatever can be read has been read before the answer to this.
        await it.client.publish("probe", b"", qos=1)
        assert it.handler.began == [b"1", b"2", b"3"]
        it.handler.release(b"1")
        await it.handler.has_begun(b"4", b"5")


async def test_payload_bytes_in_flight_are_bounded(broker: ScriptedBroker, options: MqttOptions) -> None:
    big = [bytes([number]) * 100_000 for number in range(5)]
    async with running(replace(options, max_in_flight_bytes=150_000), "a", client_id="router") as it:
        session = await broker.next_session()
        for mid, payload in enumerate(big, start=1):
            session.publish("a", payload, mid=mid)
        await it.handler.has_begun(*big[:2])
        await session.writer.drain()
        for done, payload in enumerate(big):
            await it.handler.has_begun(payload)
            assert it.told.count(MessageReceived) - done <= 2
            it.handler.release(payload)
        await it.handler.has_ended(*big)


async def test_pitfall_06_a_connection_that_is_paused_beyond_its_keepalive_stays(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(replace(options, max_in_flight=1, keepalive=1), "a", client_id="router") as it:
        session = await broker.next_session()
        publish_numbered(session, 3)
        await it.handler.has_begun(b"1")
        # Each PINGREQ is a keepalive later than the one before; no PINGRESP is read meanwhile.
        for _ in range(3):
            await session.next_ping()
        it.handler.release(*numbered(3))
        assert [await session.next_puback() for _ in range(3)] == [1, 2, 3]
        assert it.told.count(BrokerLost) == 0


async def test_a_handler_may_publish_while_reading_is_paused(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with running(replace(options, max_in_flight=1), "a", client_id="router") as it:
        session = await broker.next_session()
        publish_numbered(session, 50)
        await it.handler.has_begun(b"1")
        await it.client.publish("reply", b"x", qos=1)
        assert it.handler.began == [b"1"]
        it.handler.release_all()
        assert [await session.next_puback() for _ in range(50)] == list(range(1, 51))


async def test_a_handler_may_publish_while_the_bytes_are_at_their_bound(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(replace(options, max_in_flight_bytes=1000), "a", client_id="router") as it:
        session = await broker.next_session()
        session.publish("a", bytes(1000), mid=1)
        session.publish("a", b"2", mid=2)
        await it.handler.has_begun(bytes(1000))
        async with asyncio.timeout(5):
            await it.client.publish("reply", b"x", qos=1)
        it.handler.release_all()
        assert [await session.next_puback() for _ in range(2)] == [1, 2]


async def test_stopping_lets_handlers_end_and_acknowledges_what_is_done(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        publish_numbered(session, 2)
        await it.handler.has_begun(b"1", b"2")
        it.client.quiet()
        session.publish("a", b"too late", mid=3)
        stopping = asyncio.create_task(it.client.stop(20))
        it.handler.release(b"1", b"2")
        await stopping
        await it.task
        await session.end()
        assert [session.pubacks.get_nowait() for _ in range(session.pubacks.qsize())] == [1, 2]
        assert session.said_disconnect
        assert b"too late" not in it.handler.began


async def test_a_handler_that_outlives_the_grace_is_cancelled_and_not_acknowledged(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        publish_numbered(session, 3)
        await it.handler.has_begun(*numbered(3))
        it.handler.release(b"1", b"3")
        await it.handler.has_ended(b"1", b"3")
        await it.client.stop(0)
        await session.end()
        assert it.handler.cancelled == [b"2"]
        assert [session.pubacks.get_nowait() for _ in range(session.pubacks.qsize())] == [1]


async def test_what_came_with_a_message_is_passed_on(broker: ScriptedBroker, options_5: MqttOptions) -> None:
    properties = (
        b"\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x04text\x08\x00\x05reply\x09\x00\x02\x00\xff"
        b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w"
    )
    async with running(options_5, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        session.publish("a", b"1", mid=9, duplicate=True, retain=True, properties=properties)
        await it.handler.has_ended(b"1")
    message = it.handler.messages[0]
    assert (message.qos, message.duplicate, message.retain, message.mid) == (1, True, True, 9)
    assert message.properties == MessageProperties("text", "reply", b"\x00\xff", 60, True, (("k", "v"), ("k", "w")))


async def test_an_empty_payload_and_a_topic_that_is_not_utf_8_are_passed_on(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        session.publish(b"a/\xff", b"", mid=1)
        assert await session.next_puback() == 1
    message = it.handler.messages[0]
    assert (message.topic, message.payload, message.properties) == ("a/\\xff", b"", NO_PROPERTIES)


async def test_a_large_payload_arrives_whole(broker: ScriptedBroker, options: MqttOptions) -> None:
    payload = bytes(range(256)) * 40_000
    async with running(options, "a", client_id="router", handler=Handler(hold=False)) as it:
        session = await broker.next_session()
        session.publish("a", payload, mid=1)
        assert await session.next_puback() == 1
    assert it.handler.messages[0].payload == payload


async def test_publishing_carries_topic_payload_retain_and_properties(
    broker: ScriptedBroker, options_5: MqttOptions
) -> None:
    async with running(options_5, client_id="router") as it:
        session = await broker.next_session()
        properties = MessageProperties(correlation_data=b"\x07", user_properties=(("k", "v"),))
        await it.client.publish("reply/1", "ü", qos=1, retain=True, properties=properties)
        sent = await session.next_publish()
    assert (sent.topic, sent.payload, sent.qos, sent.retain) == ("reply/1", "ü".encode(), 1, True)
    assert sent.properties == b"\x09\x00\x01\x07\x26\x00\x01k\x00\x01v"


async def test_publishing_without_a_connection_is_refused(broker: ScriptedBroker, options: MqttOptions) -> None:
    broker.connack = 3 if options.protocol == "3.1.1" else 0x88
    async with running(options, client_id="router", wait=False) as it:
        await broker.next_attempt()
        with pytest.raises(BrokerUnavailableError, match=f"{options.address}.*cannot publish to reply"):
            await it.client.publish("reply", b"")


async def test_a_publish_that_the_lost_connection_left_unanswered_fails_at_once(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    broker.answers_publish = False
    async with running(replace(options, answer_timeout=600), client_id="router") as it:
        session = await broker.next_session()
        publishing = asyncio.create_task(it.client.publish("reply", b"", qos=1))
        await session.next_publish()
        session.cut()
        with pytest.raises(BrokerUnavailableError, match="lost"):
            await publishing


async def test_many_publish_side_by_side_without_a_warning(
    broker: ScriptedBroker, options: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(options, client_id="router") as it:
        await asyncio.gather(*(it.client.publish("reply", b"", qos=number % 2) for number in range(200)))
    assert caplog.text == ""


async def test_a_handler_may_publish_while_its_message_comes_with_connack(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async def handle(message: IncomingMessage) -> None:
        await it.client.publish("reply", b"x", qos=1)

    async with running(options, "a", client_id="router", handle=handle) as it:
        (await broker.next_session()).cut()
        broker.on_connack = lambda session: publish_numbered(session, 3)
        session = await broker.next_session()
        assert [await session.next_puback() for _ in range(3)] == [1, 2, 3]


async def test_what_an_old_session_brings_with_qos_2_is_answered_as_such(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with running(options, "a", client_id="router") as it:
        session = await broker.next_session()
        session.conduct.was_sent_with_qos_2(7)
        session.send(3, b"\x00\x01a\x00\x07" + (b"\x00" if session.is_v5 else b"") + b"twice", flags=4)
        assert await session.next_pubrec() == 7
        session.send(6, b"\x00\x07", flags=2)
        await it.handler.has_begun(b"twice")
        session.publish("a", b"once", mid=8)
        await it.handler.has_begun(b"once")
        await it.client.publish("probe", b"", qos=1)
        assert session.pubcomps.empty()
        it.handler.release(b"once", b"twice")
        assert await session.next_pubcomp() == 7
        assert await session.next_puback() == 8
        session.publish("a", b"again", mid=7)
        it.handler.release(b"again")
        assert await session.next_puback() == 7
