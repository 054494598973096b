from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from heapq import heappop, heappush
from itertools import count

import pytest

from core.errors import QueueUnavailableError
from core.observability.events import StoreBack, StoreLost
from core.routing.outage import Outage
from core.tasks import end_tasks
from tests.unit.routing.conftest import ManualClock, Records

MANY = 1000


class PassingClock(ManualClock):
    """Who sleeps is woken as a test lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.seconds + seconds, next(self._numbers), woken))
        await woken

    async def go_on(self, seconds: float) -> None:
        end = self.seconds + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.seconds, _, woken = heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await self._settle()
        self.seconds = end

    async def _settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


class Servers:
    """Those that are away, and how often they were asked for."""

    def __init__(self, *away: str) -> None:
        self.away = {*away}
        self.asked = Counter[str]()

    def asks(self, server: str, then: Exception | None = None) -> Callable[[], Awaitable[None]]:
        async def action() -> None:
            self.asked[server] += 1
            if server in self.away:
                raise QueueUnavailableError(server)
            if then:
                raise then

        return action


Wait = Callable[..., list[asyncio.Task[None]]]


@pytest.fixture
def clock() -> PassingClock:
    return PassingClock()


@pytest.fixture
async def wait(clock: PassingClock, records: Records) -> AsyncIterator[Wait]:
    """Starts those that wait, by what they do."""
    outage = Outage(records.bus, clock)
    tasks: list[asyncio.Task[None]] = []

    def start(*actions: Callable[[], Awaitable[None]]) -> list[asyncio.Task[None]]:
        started = [
            asyncio.create_task(outage.outlast(action, lambda error: isinstance(error, QueueUnavailableError)))
            for action in actions
        ]
        tasks.extend(started)
        return started

    yield start
    await end_tasks(*tasks)
    await clock.go_on(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


LONGEST = 1.25
"""Seconds between two tries, whoever makes them."""


@pytest.mark.parametrize("number", [1, MANY])
async def test_of_all_that_wait_one_tries_again_soon_and_then_each_second(
    clock: PassingClock, wait: Wait, number: int
) -> None:
    servers = Servers("store")
    wait(*[servers.asks("store")] * number)
    await clock.go_on(0)
    assert servers.asked["store"] == number
    servers.asked.clear()
    await clock.go_on(1)
    assert 3 <= servers.asked["store"] <= 4
    servers.asked.clear()
    await clock.go_on(60)
    assert 60 / LONGEST - 1 <= servers.asked["store"] <= 60 / 0.75 + 1


async def test_a_second_outage_begins_as_the_first(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    for _ in range(2):
        servers.away.add("store")
        (waiting,) = wait(servers.asks("store"))
        await clock.go_on(20)
        servers.away.clear()
        await clock.go_on(LONGEST)
        assert waiting.done()
    servers.away.add("store")
    servers.asked.clear()
    wait(servers.asks("store"))
    await clock.go_on(1)
    assert servers.asked["store"] == 1 + 3


async def test_once_one_has_got_through_so_have_all(clock: PassingClock, wait: Wait, records: Records) -> None:
    servers = Servers("store")
    waiting = wait(*[servers.asks("store")] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    servers.asked.clear()
    await clock.go_on(LONGEST)
    assert all(task.done() for task in waiting)
    assert servers.asked["store"] == MANY
    assert [type(event) for event in records.events] == [StoreLost, StoreBack]


async def test_they_try_again_in_the_order_in_which_they_came(clock: PassingClock, wait: Wait) -> None:
    servers, through = Servers("store"), list[int]()

    def asks(number: int) -> Callable[[], Awaitable[None]]:
        async def action() -> None:
            await servers.asks("store")()
            through.append(number)

        return action

    wait(*map(asks, range(MANY)))
    await clock.go_on(0)
    servers.away.clear()
    await clock.go_on(LONGEST)
    assert through == [*range(MANY)]


async def test_all_that_fail_at_something_else_once_it_is_back_do_so_at_once(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    waiting = wait(*[servers.asks("store", then=ValueError())] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    await clock.go_on(LONGEST)
    for _ in range(3 * MANY):  # turns of the event loop, as each calls but one
        await asyncio.sleep(0)
    assert {type(task.exception()) for task in waiting} == {ValueError}


async def test_who_fails_at_something_else_while_it_is_away_sets_off_no_others(clock: PassingClock, wait: Wait) -> None:
    """Each has three tries that count, which it is not to use up while it waits."""
    servers, tries = Servers("store"), count(1)

    async def action() -> None:
        number = next(tries)
        if number > MANY and number % 3 == 0:
            raise ValueError
        await servers.asks("store")()

    waiting = wait(*[action] * MANY)
    await clock.go_on(20)
    assert 5 <= sum(task.done() for task in waiting) <= 30


async def test_a_few_that_wait_for_one_server_are_not_kept_by_many_that_wait_for_another(
    clock: PassingClock, wait: Wait
) -> None:
    servers = Servers("here", "there")
    many = wait(*[servers.asks("there")] * (MANY - 10))
    await clock.go_on(20)
    few = wait(*[servers.asks("here")] * 10)
    await clock.go_on(1)
    servers.away.remove("here")
    await clock.go_on(2 * LONGEST)
    assert all(task.done() for task in few)
    servers.asked.clear()
    await clock.go_on(20)
    assert 10 <= servers.asked["there"] <= 30
    assert not any(task.done() for task in many)
    servers.away.clear()
    await clock.go_on(LONGEST)
    assert all(task.done() for task in many)


async def test_one_server_that_refuses_in_many_ways_is_waited_for_as_one(clock: PassingClock, wait: Wait) -> None:
    servers = Servers(*map(str, range(MANY)))
    waiting = wait(*map(servers.asks, servers.away))
    await clock.go_on(20)
    assert servers.asked.total() <= MANY + 35
    servers.away.clear()
    await clock.go_on(LONGEST)
    assert all(task.done() for task in waiting)


async def test_a_server_that_takes_in_one_now_and_then_is_not_asked_by_all_each_time(
    clock: PassingClock, wait: Wait
) -> None:
    room, asked = 0, 0

    async def action() -> None:
        nonlocal room, asked
        asked += 1
        if not room:
            raise QueueUnavailableError("full")
        room -= 1

    waiting = wait(*[action] * MANY)
    await clock.go_on(20)
    asked = 0
    for _ in range(10):
        room = 1
        await clock.go_on(LONGEST)
    assert sum(task.done() for task in waiting) == 10
    assert asked <= 10 * (1 + 4 + 8)


async def test_the_place_of_one_that_is_ended_is_free(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    waiting = wait(*[servers.asks("store")] * MANY)
    await clock.go_on(20)
    await end_tasks(*waiting[1:])
    servers.asked.clear()
    await clock.go_on(LONGEST)
    assert servers.asked["store"] >= 1
