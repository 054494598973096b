from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count

import pytest

from core.errors import QueueUnavailableError
from core.observability.events import StoreBack, StoreLost
from core.routing.outage import Outage
from core.tasks import cancel_for_stop, end_tasks
from tests.unit.routing.conftest import ManualClock, Records

MANY = 1000


class PassingClock(ManualClock):
    """Who sleeps is woken as a test lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self.before_waking: Callable[[], object] | None = None

    async def sleep(self, seconds: float) -> None:
        if not seconds:
            return
        woken = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.seconds + seconds, next(self._numbers), woken))
        await woken

    async def go_on(self, seconds: float) -> None:
        end = self.seconds + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.seconds, _, woken = heappop(self._sleepers)
            if not woken.done():
                if self.before_waking:
                    self.before_waking()
                woken.set_result(None)
                await self._settle()
        self.seconds = end

    async def _settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


class Servers:
    """Those that are away, and how often they were asked for."""

    def __init__(self, clock: PassingClock, *away: str) -> None:
        self.clock = clock
        self.away = {*away}
        self.asked = Counter[str]()

    def asks(
        self, server: str, then: type[BaseException] | None = None, takes: float = 0
    ) -> Callable[[], Awaitable[None]]:
        """Work on what it gave takes so many seconds."""

        async def action() -> None:
            self.asked[server] += 1
            if server in self.away:
                raise QueueUnavailableError(f"attempt {self.asked.total()} in vain", server=server)
            await self.clock.sleep(takes)
            if then:
                raise then

        return action


Wait = Callable[..., list[asyncio.Task[None]]]


@pytest.fixture
def clock() -> PassingClock:
    return PassingClock()


@pytest.fixture
def outage(clock: PassingClock, records: Records) -> Outage:
    return Outage(records.bus, clock)


@pytest.fixture
async def wait(clock: PassingClock, outage: Outage) -> AsyncIterator[Wait]:
    """Starts those that wait, by what they do."""
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
    servers = Servers(clock, "store")
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
    servers = Servers(clock, "store")
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
    servers = Servers(clock, "store")
    waiting = wait(*[servers.asks("store")] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    servers.asked.clear()
    await clock.go_on(LONGEST)
    assert all(task.done() for task in waiting)
    assert servers.asked["store"] == MANY
    assert [type(event) for event in records.events] == [StoreLost, StoreBack]


async def test_first_comes_whose_last_attempt_is_the_longest_ago(clock: PassingClock, wait: Wait) -> None:
    servers, through, asked = Servers(clock, "store"), list[int](), list[int]()

    def asks(number: int) -> Callable[[], Awaitable[None]]:
        async def action() -> None:
            asked.append(number)
            await servers.asks("store")()
            through.append(number)

        return action

    wait(*map(asks, range(MANY)))
    await clock.go_on(10)
    again = asked[MANY:]
    assert again == [*range(len(again))]
    assert again
    servers.away.clear()
    await clock.go_on(LONGEST)
    assert through == [*range(len(again), MANY), *again]


@pytest.mark.parametrize("then", [ValueError, asyncio.CancelledError])
@pytest.mark.parametrize("takes", [0.0, 0.1])
async def test_all_that_fail_at_something_else_once_it_is_back_do_so_soon(
    clock: PassingClock, wait: Wait, then: type[BaseException], takes: float
) -> None:
    """Each of their attempts takes `takes` seconds."""
    servers = Servers(clock, "store")
    waiting = wait(*[servers.asks("store", then, takes)] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    await clock.go_on(LONGEST + 20 * takes)
    for _ in range(MANY):  # turns of the event loop
        await asyncio.sleep(0)
    assert all(task.done() for task in waiting)


async def test_slow_ones_are_through_soon(clock: PassingClock, wait: Wait) -> None:
    servers = Servers(clock, "store")
    waiting = wait(*[servers.asks("store", takes=1)] * MANY)
    await clock.go_on(20)
    servers.away.clear()
    await clock.go_on(LONGEST + 5)
    assert all(task.done() for task in waiting)


async def test_who_fails_at_something_else_while_it_is_away_sets_off_no_others(clock: PassingClock, wait: Wait) -> None:
    """Each has three tries that count, which it is not to use up while it waits."""
    servers, tries = Servers(clock, "store"), count(1)

    async def action() -> None:
        number = next(tries)
        if number > MANY and number % 3:
            raise ValueError
        await servers.asks("store")()

    waiting = wait(*[action] * MANY)
    await clock.go_on(20)
    assert 10 <= sum(task.done() for task in waiting) <= 2 * (20 / 0.75 + 4)


async def test_a_few_that_wait_for_one_server_are_not_kept_by_many_that_wait_for_another(
    clock: PassingClock, wait: Wait
) -> None:
    servers = Servers(clock, "here", "there")
    many = wait(*[servers.asks("there")] * (MANY - 10))
    await clock.go_on(20)
    few = wait(*[servers.asks("here")] * 10)
    await clock.go_on(10)
    servers.asked.clear()
    servers.away.remove("here")
    await clock.go_on(LONGEST)
    assert all(task.done() for task in few)
    assert servers.asked["there"] <= 2
    await clock.go_on(20)
    assert 10 <= servers.asked["there"] <= 30
    assert not any(task.done() for task in many)
    servers.away.clear()
    await clock.go_on(LONGEST)
    assert all(task.done() for task in many)


async def test_who_gets_through_to_one_server_sets_off_no_attempts_at_another(clock: PassingClock, wait: Wait) -> None:
    servers = Servers(clock, "there")
    wait(*[servers.asks("there")] * MANY)
    await clock.go_on(20)
    servers.asked.clear()
    for _ in range(20):
        servers.away.add("here")
        (one,) = wait(servers.asks("here"))
        await clock.go_on(0.05)
        servers.away.remove("here")
        await clock.go_on(0.95)
        assert one.done()
    assert servers.asked["there"] <= 20 / 0.75 + 1


async def test_who_needs_two_servers_waits_for_each(clock: PassingClock, wait: Wait) -> None:
    servers = Servers(clock, "here", "there")

    async def action() -> None:
        await servers.asks("here")()
        await servers.asks("there")()

    waiting = wait(*[action] * MANY)
    await clock.go_on(20)
    servers.away.remove("here")
    await clock.go_on(2 * LONGEST)
    assert servers.asked["there"] >= MANY
    servers.asked.clear()
    await clock.go_on(20)
    assert servers.asked["there"] <= 20 / 0.75 + 1
    servers.away.clear()
    await clock.go_on(LONGEST)
    assert all(task.done() for task in waiting)


@pytest.mark.parametrize(("number", "within"), [(100, 9), (MANY, 13)])
async def test_who_needs_one_server_is_not_kept_for_long_by_those_that_need_a_slow_one_as_well(
    clock: PassingClock, wait: Wait, number: int, within: float
) -> None:
    """Which they learn only after three seconds; until then, nobody knows that the first is back."""
    servers = Servers(clock, "here", "there")

    async def action() -> None:
        await servers.asks("here", takes=3)()
        await servers.asks("there")()

    wait(*[action] * number)
    few = wait(*[servers.asks("here")] * 10)
    await clock.go_on(20)
    servers.away.remove("here")
    await clock.go_on(within)
    assert all(task.done() for task in few)


async def test_what_names_no_server_is_waited_for_by_its_type(clock: PassingClock, wait: Wait) -> None:
    away = True

    def asks(error: type[QueueUnavailableError]) -> Callable[[], Awaitable[None]]:
        async def action() -> None:
            if away or error is not QueueUnavailableError:
                raise error("no server is named")

        return action

    class Other(QueueUnavailableError):
        """Such as an app may have."""

        def __init__(self, text: str) -> None:
            self.text = text

    others = wait(*[asks(Other)] * MANY)
    few = wait(*[asks(QueueUnavailableError)] * 10)
    await clock.go_on(20)
    away = False
    await clock.go_on(LONGEST)
    assert all(task.done() for task in few)
    assert not any(task.done() for task in others)


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
    servers = Servers(clock, "store")
    waiting = wait(*[servers.asks("store")] * MANY)
    await clock.go_on(20)
    await end_tasks(*waiting[1:])
    servers.asked.clear()
    await clock.go_on(LONGEST)
    assert servers.asked["store"] >= 1


@pytest.mark.parametrize("is_called", [False, True])
async def test_the_call_of_one_that_is_ended_goes_to_the_next(clock: PassingClock, wait: Wait, is_called: bool) -> None:
    """Ended in the turn of the loop in which it would be called, or in the next, before it goes on."""
    servers, waiting = Servers(clock, "store"), list[asyncio.Task[None]]()

    def asks(number: int) -> Callable[[], Awaitable[None]]:
        async def action() -> None:
            await servers.asks("store")()
            for follower in waiting[number + 1 : number + 2]:
                if is_called:
                    asyncio.get_running_loop().call_soon(follower.cancel)
                else:
                    follower.cancel()
            raise ValueError

        return action

    waiting += wait(*map(asks, range(100)))
    await clock.go_on(0)
    servers.away.clear()
    await clock.go_on(0.15)  # the first is called, and none but by another from then on
    for _ in range(1000):
        await asyncio.sleep(0)
    assert all(task.done() for task in waiting)
    assert any(task.cancelled() for task in waiting)


async def test_the_first_is_ended_as_it_is_called(clock: PassingClock, wait: Wait) -> None:
    """Between its end and its next step it still stands in line."""
    servers = Servers(clock, "store")
    waiting = wait(*[servers.asks("store")] * 3)
    await clock.go_on(0)
    servers.away.clear()
    clock.before_waking = waiting[0].cancel
    await clock.go_on(LONGEST)
    assert waiting[0].cancelled()
    assert all(task.done() for task in waiting)


async def test_each_outage_is_told_of_and_so_is_its_end(clock: PassingClock, wait: Wait, records: Records) -> None:
    servers = Servers(clock)
    for number in range(1, 4):
        servers.away.add("store")
        waiting = wait(*[servers.asks("store")] * 3)
        await clock.go_on(2)
        servers.away.clear()
        await clock.go_on(LONGEST)
        assert all(task.done() for task in waiting)
        wait(servers.asks("store"))
        await clock.go_on(0)
        assert [type(event) for event in records.events] == [StoreLost, StoreBack] * number


async def test_an_outage_that_nobody_waits_for_any_more_does_not_slow_down_the_next(
    clock: PassingClock, wait: Wait
) -> None:
    servers = Servers(clock, "store")
    (ended,) = wait(servers.asks("store"))
    await clock.go_on(20)
    await end_tasks(ended)
    servers.asked.clear()
    wait(servers.asks("store"))
    await clock.go_on(1)
    assert servers.asked["store"] == 1 + 3


@pytest.mark.parametrize("error", [QueueUnavailableError("cut short"), OSError()])
async def test_a_stop_that_is_taken_for_an_outage_is_one_all_the_same(
    clock: PassingClock, outage: Outage, error: Exception
) -> None:
    begun, calls = asyncio.Event(), 0

    async def action() -> None:
        nonlocal calls
        calls += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    task = asyncio.create_task(outage.outlast(action, lambda _: True))
    await begun.wait()
    cancel_for_stop(task)
    await clock.go_on(20)
    assert task.cancelled()
    assert calls == 1


async def test_an_attempt_inherits_no_cancellation_of_an_earlier_one(clock: PassingClock, outage: Outage) -> None:
    seen = list[int]()

    async def action() -> None:
        task = asyncio.current_task()
        assert task
        seen.append(task.cancelling())
        if len(seen) < 3:
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                raise QueueUnavailableError("too slow") from None

    task = asyncio.create_task(outage.outlast(action, lambda _: True))
    await clock.go_on(5)
    assert task.done()
    assert seen == [0, 0, 0]


async def test_nothing_of_the_first_is_kept_for_those_that_wait_on(
    clock: PassingClock, outage: Outage, wait: Wait
) -> None:
    servers, variable = Servers(clock, "store"), ContextVar[Servers]("variable")
    held = Servers(clock)
    gone = weakref.ref(held)
    token = variable.set(held)
    first = asyncio.create_task(outage.outlast(servers.asks("store"), lambda _: True))
    await clock.go_on(0)
    variable.reset(token)
    wait(servers.asks("store"))
    await clock.go_on(0)
    await end_tasks(first)
    del held, first, token
    await clock.go_on(1)
    gc.collect()
    assert gone() is None
