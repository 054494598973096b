from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from core.mqtt.acknowledger import Acknowledger
from core.mqtt.intake import Intake
from core.mqtt.message import IncomingMessage
from core.tasks import is_cancelled_for_stop
from tests.mqtt_harness import Handler


def message(payload: bytes, mid: int = 0) -> IncomingMessage:
    return IncomingMessage("a", payload, qos=1 if mid else 0, mid=mid)


class Bench:
    """An intake, and the PUBACKs of its latest connection."""

    def __init__(self, max_messages: int = 1) -> None:
        self.handler = Handler()
        self.rooms: asyncio.Queue[None] = asyncio.Queue()
        self.intake = Intake(self.handler, max_messages=max_messages, max_bytes=100, on_room=self.note_room)
        self.acknowledger = self.connect()

    def connect(self) -> Acknowledger:
        self.sent: list[int] = []
        self.acknowledger = Acknowledger(send=self.send, give_up=lambda: None)
        self.intake.follow(self.acknowledger)
        return self.acknowledger

    def send(self, mid: int) -> bool:
        self.sent.append(mid)
        return True

    def note_room(self) -> None:
        self.rooms.put_nowait(None)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.intake.quiet()
    await bench.intake.drain(0)  # what a test holds back to its end is not left to the garbage collection


async def test_beyond_its_bound_it_takes_only_what_stands_before_an_awaited_answer(bench: Bench) -> None:
    assert bench.intake.has_room()
    bench.intake.take(message(b"1", mid=1))
    assert not bench.intake.has_room()
    assert bench.intake.has_room(answer_awaited=True)
    for mid in range(2, 1002):
        bench.intake.take(message(b"", mid=mid))
    assert not bench.intake.has_room(answer_awaited=True)


async def test_pitfall_06_a_message_that_is_handled_and_waits_for_its_puback_takes_up_room() -> None:
    bench = Bench(max_messages=2)
    bench.intake.take(message(b"1", mid=1))
    bench.intake.take(message(b"2", mid=2))
    await bench.handler.has_begun(b"1", b"2")
    bench.handler.release(b"2")
    await bench.handler.has_ended(b"2")
    await bench.rooms.get()
    assert (bench.intake.held, bench.intake.has_room()) == (2, False)
    bench.intake.take(message(b"3", mid=3))
    bench.handler.release(b"1", b"3")
    await bench.handler.has_ended(b"1", b"3")
    await bench.intake.drain(20)
    assert bench.sent == [1, 2, 3]
    assert bench.handler.most_at_once == 2


async def test_an_awaited_answer_lifts_the_bound_on_bytes_for_what_stands_before_it_up_to_as_much_again() -> None:
    bench = Bench(max_messages=10)
    bench.intake.take(message(bytes(100)))
    assert not bench.intake.has_room()
    assert bench.intake.has_room(answer_awaited=True)
    bench.intake.take(message(b"1" * 100))
    assert not bench.intake.has_room(answer_awaited=True)
    await bench.handler.has_begun(bytes(100))
    assert bench.handler.began == [bytes(100)]
    bench.handler.release(bytes(100))
    await bench.handler.has_begun(b"1" * 100)
    bench.handler.release(b"1" * 100)
    await bench.intake.drain(20)
    assert bench.intake.has_room()


async def test_what_waited_on_a_lost_connection_is_left_to_its_redelivery(bench: Bench) -> None:
    for payload, mid in ((b"running", 1), (b"waiting", 2), (b"not to be repeated", 0)):
        bench.intake.take(message(payload, mid))
    bench.acknowledger.close()
    bench.connect()
    assert bench.intake.held == 2
    bench.intake.take(message(b"waiting", 7))
    bench.handler.release(b"running", b"not to be repeated", b"waiting")
    await bench.handler.has_ended(b"running", b"not to be repeated", b"waiting")
    await bench.intake.drain(20)
    assert bench.handler.ended == [b"running", b"not to be repeated", b"waiting"]
    assert bench.sent == [7]
    assert (bench.intake.held, bench.intake.has_room()) == (0, True)


async def test_every_end_of_a_handler_tells_of_room(bench: Bench) -> None:
    for payload in (b"1", b"2"):
        bench.intake.take(message(payload))
    for payload in (b"1", b"2"):
        await bench.handler.has_begun(payload)
        assert bench.rooms.empty()
        bench.handler.release(payload)
        await bench.rooms.get()
        assert bench.handler.ended[-1] == payload


async def test_quiet_starts_no_more_handlers(bench: Bench) -> None:
    bench.intake.take(message(b"1", mid=1))
    await bench.handler.has_begun(b"1")
    bench.intake.quiet()
    bench.intake.take(message(b"2", mid=2))
    bench.handler.release(b"1", b"2")
    await bench.intake.drain(20)
    assert bench.handler.ended == [b"1"]
    assert not bench.intake.has_room()


async def test_a_handler_cut_short_by_the_end_of_the_grace_can_tell_that_from_a_cancellation_of_its_own() -> None:
    running, told = asyncio.Event(), list[bool]()

    async def handle(message: IncomingMessage) -> None:
        told.append(is_cancelled_for_stop())
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append(is_cancelled_for_stop())

    intake = Intake(handle, max_messages=10, max_bytes=100, on_room=lambda: None)
    intake.take(message(b"1", mid=1))
    await running.wait()
    await intake.drain(0)
    assert told == [False, True]


async def test_a_drain_without_grace_ends_the_one_that_waits_even_for_a_handler_deaf_to_its_cancellation() -> None:
    running, go_on, told = asyncio.Event(), asyncio.Event(), list[str]()

    async def deaf(message: IncomingMessage) -> None:
        running.set()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                told.append("cancelled")

    intake = Intake(deaf, max_messages=10, max_bytes=100, on_room=lambda: None)
    intake.take(message(b"1", mid=1))
    await running.wait()
    patient = asyncio.create_task(intake.drain(20))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            await intake.drain(0)
            await patient
        assert told == ["cancelled"]
    finally:
        go_on.set()


async def test_what_a_handler_sets_in_its_context_no_other_sees() -> None:
    variable: ContextVar[bytes] = ContextVar("variable", default=b"")
    seen: list[bytes] = []

    async def handle(message: IncomingMessage) -> None:
        seen.append(variable.get())
        variable.set(message.payload)

    intake = Intake(handle, max_messages=10, max_bytes=100, on_room=lambda: None)
    for payload in (b"1", b"2", b"3"):
        intake.take(message(payload))
    await intake.drain(20)
    assert seen == [b"", b"", b""]


async def test_thousands_that_wait_and_need_no_second_step_are_handled_one_after_the_other() -> None:
    handled: list[bytes] = []
    go_on = asyncio.Event()

    async def handle(incoming: IncomingMessage) -> None:
        if incoming.payload == b"first":
            await go_on.wait()
        handled.append(incoming.payload)

    intake = Intake(handle, max_messages=1, max_bytes=10_000, on_room=lambda: None)
    intake.take(message(b"first"))
    for _ in range(5000):
        intake.take(message(b"."))
    go_on.set()
    async with asyncio.timeout(10):
        while len(handled) < 5001:  # noqa: ASYNC110, each look lets one more be handled
            await asyncio.sleep(0)
