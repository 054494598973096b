"""Frames and tickets between a worker and a child."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from core.queue.worker.process_wire import ChildEnd, Done, Raised, ToChild, Work, WorkerEnd
from tests.unit.worker.conftest import PROMPT


class Wire:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        tickets, unclaimed = socket.socketpair()
        self.worker = WorkerEnd(ours, tickets, unclaimed)
        self.child = ChildEnd(theirs, unclaimed)
        self.theirs = theirs
        self._messages = self.child.messages()

    def next(self) -> str | None:
        """What the child starts next."""
        message = next(self._messages, None)
        return None if message is None else name(message)

    async def answers(self) -> list[object]:
        """The next that there are."""
        readable = asyncio.Event()
        self.worker.listen(readable.set)
        await asyncio.wait_for(readable.wait(), PROMPT)
        self.worker.listen(None)
        return list(self.worker.receive())


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    with closing(wire.theirs), closing(wire.worker):
        yield wire


def work(name: str, payload: bytes = b"") -> Work:
    return Work(name, "default", payload, 1, 0.0)


def name(message: ToChild) -> str:
    assert isinstance(message, Work)
    return message.job_id


async def test_messages_come_in_order(wire: Wire) -> None:
    wire.worker.send([work("a"), work("b")])
    wire.worker.send([work("c")])
    assert [wire.next(), wire.next(), wire.next()] == ["a", "b", "c"]


async def test_what_was_taken_back_never_starts(wire: Wire) -> None:
    wire.worker.send([work("a"), work("b"), work("c")])
    assert wire.next() == "a"
    assert wire.worker.take_back() == 2
    assert wire.worker.take_back() == 0
    wire.worker.send([work("d"), work("e")])
    assert [wire.next(), wire.next()] == ["d", "e"]


async def test_what_is_to_be_skipped_is_not_forgotten_when_its_ticket_is_taken_back_too(wire: Wire) -> None:
    wire.worker.send([work("a"), work("b")])
    assert wire.worker.take_back() == 2
    wire.worker.send([work("c"), work("d")])
    assert wire.worker.take_back() == 2
    wire.worker.send([work("e")])
    assert wire.next() == "e"


async def test_a_child_leaves_when_the_worker_hangs_up_after_what_it_was_given(wire: Wire) -> None:
    wire.worker.send([work("a")])
    wire.worker.hang_up()
    assert [wire.next(), wire.next()] == ["a", None]


async def test_answers_are_received_in_one_go(wire: Wire) -> None:
    wire.child.answer(Done())
    wire.child.answer(Raised("one", "two", wants_retry=True))
    assert await wire.answers() == [Done(), Raised("one", "two", wants_retry=True)]
    assert wire.worker.receive() == [] and not wire.worker.is_cut


async def test_answers_before_the_end_are_received(wire: Wire) -> None:
    wire.child.answer(Done())
    wire.theirs.close()
    received = await wire.answers() + list(wire.worker.receive())
    assert received == [Done()] and wire.worker.is_cut


async def test_nonsense_ends_the_conversation(wire: Wire) -> None:
    wire.child.answer(Done())
    wire.theirs.sendall(b"\0\0\0\x03abc")
    assert await wire.answers() == [Done()] and wire.worker.is_cut


async def test_what_a_socket_does_not_hold_is_sent_by_and_by(wire: Wire) -> None:
    large = b"x" * 5_000_000
    wire.worker.send([work("a", large), work("b", large), work("c")])
    assert [await asyncio.wait_for(asyncio.to_thread(wire.next), PROMPT) for _ in range(3)] == ["a", "b", "c"]


async def test_a_large_answer_arrives_in_parts(wire: Wire) -> None:
    answer = Raised("x" * 5_000_000, "", wants_retry=False)
    sending = asyncio.create_task(asyncio.to_thread(wire.child.answer, answer))
    received: list[object] = []
    while not received:
        received += await wire.answers()
    assert received == [answer]
    await sending


async def test_sending_to_the_dead_is_no_error(wire: Wire) -> None:
    wire.theirs.close()
    wire.worker.send([work("a")])
    assert wire.worker.take_back() == 1
