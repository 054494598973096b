"""A router's inside before a strict broker: nothing is acknowledged before it is stored, whatever happens.

That the broker is strict (tests/client_conduct.py) is tested in test_client_conduct.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from core.handle_message import FailedMessages, HandleMessage
from core.job import Job
from core.mqtt.options import MqttOptions
from core.observability.events import Events
from core.queue.drivers.memory import MemoryDriver, MemoryFailureStore
from core.queue.envelope import load_job, read_envelope
from core.queue.queue_manager import DispatchOptions, QueueManager, dispatch
from core.queue.registry import JobRegistry
from core.queue.state import Failure, NewJob
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable
from tests.mqtt_harness import PATIENCE, Running, running
from tests.scripted_broker import ScriptedBroker, Session


class Note(Job):
    text: str


REGISTRY = JobRegistry([Note, HandleMessage])


async def note(payload: str) -> None:
    if payload.startswith("bad"):
        raise ValueError(payload)
    await dispatch(Note(text=payload))


class Gate:
    """What wants through waits until the test lets it."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self._is_open = False

    async def pass_through(self) -> None:
        if not self._is_open:
            passed = asyncio.Event()
            self._waiting.put_nowait(passed)
            await passed.wait()

    async def is_asked(self) -> None:
        """Wait until somebody waits here."""
        self._waiting.put_nowait(await asyncio.wait_for(self._waiting.get(), PATIENCE))

    async def let_one_through(self) -> None:
        (await asyncio.wait_for(self._waiting.get(), PATIENCE)).set()

    def open(self) -> None:
        self._is_open = True
        while not self._waiting.empty():
            self._waiting.get_nowait().set()


class HeldDriver(MemoryDriver):
    def __init__(self, gate: Gate, stored: set[bytes]) -> None:
        super().__init__()
        self._gate, self._stored = gate, stored

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        await self._gate.pass_through()
        self._stored.update(_loaded(job.payload).text.encode() for job in jobs)
        return await super().push(jobs)


class HeldFailures(MemoryFailureStore):
    def __init__(self, gate: Gate, stored: set[bytes]) -> None:
        super().__init__()
        self._gate, self._stored = gate, stored

    async def record(
        self, connection: str, failures: Sequence[Failure], *, confirm: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        await self._gate.pass_through()
        self._stored.update(_loaded(failure.payload).payload for failure in failures)
        await super().record(connection, failures, confirm=confirm)


def _loaded(payload: bytes) -> Any:
    return load_job(read_envelope(payload), REGISTRY)


class Inside:
    """Everything of a router between its connection and its stores, each of which waits at a gate."""

    def __init__(self) -> None:
        self.jobs, self.records = Gate(), Gate()
        self.stored: set[bytes] = set()
        """The payloads of the messages whose jobs, or whose records, are stored."""
        driver = HeldDriver(self.jobs, self.stored)
        self.manager = QueueManager({"memory": lambda: driver}, DispatchOptions(connection="memory"))
        router = Router()
        router.on("a/#", note)
        failed = FailedMessages(HeldFailures(self.records, self.stored), "memory", "default")
        self.handler = MessageHandler(RouteTable([router]), events=Events(), record_failure=failed.record, tries=1)


@asynccontextmanager
async def routing(options: MqttOptions, broker: ScriptedBroker) -> AsyncIterator[tuple[Inside, Running]]:
    inside = Inside()
    broker.may_acknowledge = inside.stored.__contains__
    await inside.manager.open()
    try:
        async with running(options, "a/#", client_id="router", handle=inside.handler.handle) as it:
            yield inside, it
            inside.jobs.open()
            inside.records.open()
    finally:
        await inside.manager.close()


def publish(session: Session, *payloads: bytes, first: int = 1) -> None:
    for mid, payload in enumerate(payloads, start=first):
        session.publish("a/b", payload, mid=mid)


async def test_no_puback_before_the_jobs_are_stored(broker: ScriptedBroker, options: MqttOptions) -> None:
    async with routing(options, broker) as (inside, it):
        session = await broker.next_session()
        publish(session, b"1")
        await inside.jobs.is_asked()
        publish(session, b"2", b"3", b"4", b"5", first=2)
        await it.client.publish("probe", b"", qos=1)  # its answer would come after a PUBACK, had there been one
        assert session.pubacks.empty()
        await inside.jobs.let_one_through()
        assert await session.next_puback() == 1
        await it.client.publish("probe", b"", qos=1)
        assert session.pubacks.empty()
        await inside.jobs.let_one_through()
        assert [await session.next_puback() for _ in range(4)] == [2, 3, 4, 5]


async def test_no_puback_before_a_failure_is_recorded_nor_of_those_behind_it(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with routing(options, broker) as (inside, it):
        session = await broker.next_session()
        inside.jobs.open()
        publish(session, b"1", b"bad 2", b"3", b"\xff")
        assert await session.next_puback() == 1
        await it.client.publish("probe", b"", qos=1)
        assert session.pubacks.empty()
        await inside.records.let_one_through()
        assert [await session.next_puback() for _ in range(2)] == [2, 3]
        await inside.records.let_one_through()
        assert await session.next_puback() == 4


async def test_stopped_while_the_store_is_slow_it_acknowledges_what_is_stored_and_says_goodbye(
    broker: ScriptedBroker, options: MqttOptions
) -> None:
    async with routing(options, broker) as (inside, it):
        session = await broker.next_session()
        publish(session, b"1")
        await inside.jobs.is_asked()
        publish(session, b"2", first=2)
        await inside.jobs.let_one_through()
        assert await session.next_puback() == 1
        await it.client.stop(0)
        await session.end()
        assert session.said_disconnect
        assert session.pubacks.empty()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_cut_and_delivered_again_is_stored_before_it_is_acknowledged(
    broker: ScriptedBroker, options: MqttOptions, seed: int
) -> None:
    """The broker delivers again what is not acknowledged, under other packet identifiers, and cuts at any moment."""
    random = Random(seed)
    everything = [b"bad %d" % number if number % 5 == 0 else b"%d" % number for number in range(60)]
    waiting = list(everything)
    async with routing(options, broker) as (inside, _):
        for turn in range(6):
            session = await broker.next_session()
            publish(session, *waiting[: random.randint(5, 15)])
            if turn < 2:
                await inside.jobs.let_one_through()
            elif turn == 2:
                inside.jobs.open()
                inside.records.open()
            else:
                for _ in range(random.randint(0, 5)):
                    await session.next_puback()
                    del waiting[0]
            session.cut()
        session = await broker.next_session()
        publish(session, *waiting)
        assert [await session.next_puback() for _ in waiting] == list(range(1, len(waiting) + 1))
        assert inside.stored == set(everything)
