"""A worker's services wait for its store: each calls for itself, and what is told of it is one story."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core.errors import QueueUnavailableError
from core.observability.events import Event, Events, StoreBack, StoreLost
from core.queue.worker.outage import Outage
from core.queue.worker.until_reached import until_reached
from core.tasks import end_tasks

PROMPT = 10.0
SOON = 0.001
"""Seconds between two calls."""


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def outage(told: list[Event]) -> Outage:
    events = Events()
    events.subscribe(Event, told.append)
    return Outage(events)


class Waiting:
    """A service, which calls its store in vain until there is an answer."""

    def __init__(self, outage: Outage) -> None:
        self.answer: object = None
        self.task = asyncio.create_task(until_reached(self._call, outage, SOON))
        self._calls = asyncio.Semaphore(0)

    async def _call(self) -> object:
        self._calls.release()
        if self.answer is None:
            raise QueueUnavailableError("away")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def calls(self, number: int) -> None:
        async with asyncio.timeout(PROMPT):
            for _ in range(number):
                await self._calls.acquire()

    async def ends(self, answer: object) -> None:
        self.answer = answer
        await asyncio.wait([self.task], timeout=PROMPT)


@pytest.fixture
def wait(outage: Outage) -> Callable[[], Awaitable[Waiting]]:
    async def start() -> Waiting:
        waiting = Waiting(outage)
        await waiting.calls(3)
        return waiting

    return start


Wait = Callable[[], Awaitable[Waiting]]


def kinds(told: list[Event]) -> list[type[Event]]:
    return [type(event) for event in told]


async def test_however_many_wait_and_however_often_they_call_it_is_told_once(wait: Wait, told: list[Event]) -> None:
    for _ in range(2):
        told.clear()
        waiting = [await wait(), await wait(), await wait()]
        for each in waiting:
            assert kinds(told) == [StoreLost]
            await each.ends("there")
            assert each.task.result() == "there"
        assert kinds(told) == [StoreLost, StoreBack]


async def test_a_store_that_answers_with_an_error_is_back(wait: Wait, told: list[Event]) -> None:
    waiting = await wait()
    await waiting.ends(ValueError("no such thing"))
    assert type(waiting.task.exception()) is ValueError
    assert kinds(told) == [StoreLost, StoreBack]


async def test_who_stops_waiting_does_not_say_that_it_is_back(wait: Wait, told: list[Event]) -> None:
    one, other = await wait(), await wait()
    await end_tasks(one.task)
    assert kinds(told) == [StoreLost]
    await other.ends("there")
    assert kinds(told) == [StoreLost, StoreBack]
    alone = await wait()
    await end_tasks(alone.task)
    assert kinds(told) == [StoreLost, StoreBack, StoreLost]


async def test_that_one_has_an_answer_is_told_though_the_last_to_wait_is_ended(wait: Wait, told: list[Event]) -> None:
    one, other = await wait(), await wait()
    await one.ends("there")
    await end_tasks(other.task)
    assert kinds(told) == [StoreLost, StoreBack]
