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


@pytest.fixture
def clock() -> PassingClock:
    return PassingClock()


@pytest.fixture
async def wait(clock: PassingClock, records: Records) -> AsyncIterator[Callable[..., list[asyncio.Task[None]]]]:
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


Wait = Callable[..., list[asyncio.Task[None]]]


async def test_one_that_waits_tries_again_soon_and_then_every_two_seconds(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    wait(servers.asks("store"))
    await clock.go_on(1)
    assert servers.asked["store"] >= 3
    servers.asked.clear()
    await clock.go_on(60)
    assert 60 / (2 * 1.25 + 0.1) - 1 <= servers.asked["store"] <= 60 / (2 * 0.75 + 0.1) + 1


async def test_a_thousand_that_wait_try_ten_times_a_second_together(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    wait(*[servers.asks("store")] * MANY)
    await clock.go_on(0)
    assert servers.asked["store"] == MANY
    servers.asked.clear()
    await clock.go_on(20)
    assert 190 <= servers.asked["store"] <= 200


async def test_once_one_has_got_through_so_have_all(clock: PassingClock, wait: Wait, records: Records) -> None:
    servers = Servers("store")
    waiting = wait(*[servers.asks("store")] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    servers.asked.clear()
    await clock.go_on(0.2)
    assert all(task.done() for task in waiting)
    assert servers.asked["store"] == MANY
    assert [type(event) for event in records.events] == [StoreLost, StoreBack]


async def test_who_fails_at_something_else_calls_the_others_too(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    waiting = wait(*[servers.asks("store", then=ValueError())] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    await clock.go_on(0.2)
    assert {type(task.exception()) for task in waiting} == {ValueError}


async def test_who_waits_for_another_server_stays_and_keeps_nobody(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("here", "there")
    waiting = wait(*[servers.asks("here"), servers.asks("there")] * (MANY // 2))
    await clock.go_on(20)
    servers.away.remove("here")
    servers.asked.clear()
    await clock.go_on(1)
    assert [task.done() for task in waiting] == [True, False] * (MANY // 2)
    assert servers.asked["there"] <= 8 * MANY // 2
    servers.asked.clear()
    await clock.go_on(20)
    assert servers.asked["there"] <= 200


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
        await clock.go_on(1)
    assert sum(task.done() for task in waiting) == 10
    assert asked <= 10 * (10 + 8)


async def test_the_place_of_one_that_is_ended_is_free(clock: PassingClock, wait: Wait) -> None:
    servers = Servers("store")
    waiting = wait(*[servers.asks("store")] * MANY)
    await clock.go_on(20)
    await end_tasks(*waiting[1:])
    servers.asked.clear()
    await clock.go_on(3)
    assert servers.asked["store"] >= 1
