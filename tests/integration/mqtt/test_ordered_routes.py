"""Routes with `ordered_by` and `deduplicate_by`, from each broker to the end of the controller."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.errors import BrokerUnavailableError
from core.job import Job
from core.mqtt.message import IncomingMessage, MessageProperties
from core.mqtt.options import MqttOptions
from core.observability.events import Events
from core.queue.drivers.memory import MemoryDriver
from core.queue.queue_manager import DispatchOptions, QueueManager, dispatch
from core.queue.state import NewJob
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable
from tests.mqtt_harness import PATIENCE, running


class Noted(Job):
    text: str


class Recording(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[NewJob] = []

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        self.pushed += jobs
        return await super().push(jobs)


@pytest.fixture
async def driver() -> AsyncIterator[Recording]:
    driver = Recording()
    manager = QueueManager({"memory": lambda: driver}, DispatchOptions("memory"))
    await manager.open()
    yield driver
    await manager.close()


class Pumps:
    """A controller whose handlings take now more, now fewer turns of the loop."""

    def __init__(self) -> None:
        self.begun: dict[str, list[int]] = defaultdict(list)
        self.ended: dict[str, list[int]] = defaultdict(list)
        self.running: dict[str, int] = defaultdict(int)
        self.overlapping = 0
        self.fails_once: set[tuple[str, int]] = set()
        self._changed = asyncio.Condition()

    async def __call__(self, pump: str, payload: int) -> None:
        self.running[pump] += 1
        self.overlapping += self.running[pump] > 1
        self.begun[pump].append(payload)
        try:
            for _ in range(random.randrange(20)):
                await asyncio.sleep(0)
            if (pump, payload) in self.fails_once:
                self.fails_once.discard((pump, payload))
                raise BrokerUnavailableError("away")
            self.ended[pump].append(payload)
        finally:
            self.running[pump] -= 1
            async with self._changed:
                self._changed.notify_all()

    async def until_ended(self, pump: str, payload: int) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: payload in self.ended[pump]), PATIENCE)


def handler_of(controller: Any, unique: str, **keys: str) -> MessageHandler:
    async def record(message: IncomingMessage, exception: BaseException, *_: Any) -> None:
        raise AssertionError(f"{message.topic} was given up") from exception

    router = Router()
    router.on(f"{unique}/{{pump}}", controller, **keys)  # type: ignore[arg-type]
    return MessageHandler(RouteTable([router]), events=Events(), record_failure=record)


def first_of_each(payloads: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(payloads))


async def test_messages_of_a_key_are_handled_in_the_order_in_which_they_were_published(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    pumps = Pumps()
    handle = handler_of(pumps, unique, ordered_by="pump").handle
    sender = replace(options, session_expiry=0)
    async with (
        running(options, f"{unique}/#", client_id=client_id, handle=handle),
        running(sender, client_id=f"{client_id}-publisher") as publisher,
    ):
        for number in range(50):
            for pump in ("a", "b", "c"):
                await publisher.client.publish(f"{unique}/{pump}", str(number), qos=1)
        for pump in ("a", "b", "c"):
            await pumps.until_ended(pump, 49)
    assert pumps.ended == {pump: list(range(50)) for pump in ("a", "b", "c")}
    assert pumps.overlapping == 0


async def test_a_message_that_comes_again_is_not_overtaken_by_those_behind_it(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    pumps = Pumps()
    pumps.fails_once = {("a", 3), ("a", 7)}
    handle = handler_of(pumps, unique, ordered_by="pump").handle
    sender = replace(options, session_expiry=0)
    async with (
        running(options, f"{unique}/#", client_id=client_id, handle=handle),
        running(sender, client_id=f"{client_id}-publisher") as publisher,
    ):
        for number in range(20):
            for pump in ("a", "b"):
                await publisher.client.publish(f"{unique}/{pump}", str(number), qos=1)
        for pump in ("a", "b"):
            await pumps.until_ended(pump, 19)
    assert {pump: first_of_each(ended) for pump, ended in pumps.ended.items()} == {
        "a": list(range(20)),
        "b": list(range(20)),
    }
    assert pumps.overlapping == 0


async def test_a_router_that_dies_takes_up_each_key_where_it_was(
    options: MqttOptions, client_id: str, unique: str
) -> None:
    pumps, gate = Pumps(), asyncio.Event()

    async def stopping_at_5(pump: str, payload: int) -> None:
        if payload == 5:
            await gate.wait()  # which is never opened: the router dies meanwhile
        await pumps(pump, payload)

    dying, next_one = (handler_of(each, unique, ordered_by="pump") for each in (stopping_at_5, pumps))
    async with running(replace(options, session_expiry=0), client_id=f"{client_id}-publisher") as publisher:
        async with running(options, f"{unique}/#", client_id=client_id, handle=dying.handle) as it:
            for number in range(10):
                for pump in ("a", "b"):
                    await publisher.client.publish(f"{unique}/{pump}", str(number), qos=1)
            for pump in ("a", "b"):
                await pumps.until_ended(pump, 4)
            await it.kill()
        assert pumps.ended == {pump: list(range(5)) for pump in ("a", "b")}
        async with running(options, f"{unique}/#", client_id=client_id, handle=next_one.handle):
            for pump in ("a", "b"):
                await pumps.until_ended(pump, 9)
    assert [first_of_each(pumps.ended[pump]) for pump in ("a", "b")] == [list(range(10))] * 2
    assert [pumps.ended[pump][-5:] for pump in ("a", "b")] == [list(range(5, 10))] * 2


@pytest.mark.parametrize("part", ["payload.id", "content", "property.id"])
async def test_a_message_that_is_delivered_again_dispatches_under_the_key_of_the_first_time(
    options: MqttOptions, client_id: str, unique: str, driver: Recording, part: str
) -> None:
    if part.startswith("property.") and options.protocol != "5":
        pytest.skip("MQTT 3.1.1 has no properties")
    dispatched, handled = asyncio.Event(), asyncio.Event()

    async def dying_controller(pump: str) -> None:
        await dispatch(Noted(text=pump))
        dispatched.set()
        await asyncio.Event().wait()

    async def controller(pump: str) -> None:
        await dispatch(Noted(text=pump))
        handled.set()

    dying, next_one = (handler_of(each, unique, deduplicate_by=part) for each in (dying_controller, controller))
    properties = MessageProperties(user_properties=(("id", "x"),))
    async with running(replace(options, session_expiry=0), client_id=f"{client_id}-publisher") as publisher:
        async with running(options, f"{unique}/#", client_id=client_id, handle=dying.handle) as it:
            await publisher.client.publish(f"{unique}/a", b'{"id": 7}', qos=1, properties=properties)
            await asyncio.wait_for(dispatched.wait(), PATIENCE)
            await it.kill()
        async with running(options, f"{unique}/#", client_id=client_id, handle=next_one.handle):
            await asyncio.wait_for(handled.wait(), PATIENCE)
    first, again = driver.pushed
    assert first.job_id != again.job_id
    assert first.unique_key == again.unique_key is not None
