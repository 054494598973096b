from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.middleware.rate_limit import RateLimit
from core.errors import QueueUnavailableError, RateLimitedError, SettingError
from core.mqtt.message import IncomingMessage
from core.observability.events import MessageDropped
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.sliding_window import LocalWindow
from tests.unit.routing.conftest import ManualClock, Records

Handling = Callable[..., MessageHandler]


@given(
    limit=st.integers(1, 4),
    gaps=st.lists(st.sampled_from([0.0, 1.0, 3.0, 10.0]), min_size=1, max_size=40),
)
def test_a_place_is_given_exactly_when_the_window_has_one(limit: int, gaps: list[float]) -> None:
    clock, given_at = ManualClock(), list[float]()
    window = LocalWindow(limit, 10, clock)
    for gap in gaps:
        clock.seconds += gap
        inside = [at for at in given_at if at > clock.seconds - 10]
        wait = asyncio.run(window.take("key"))
        if len(inside) < limit:
            assert wait == 0
            given_at.append(clock.seconds)
        else:
            assert wait == inside[-limit] + 10 - clock.seconds


async def test_keys_are_counted_apart_and_forgotten_when_idle(clock: ManualClock) -> None:
    window = LocalWindow(1, 10, clock)
    assert [await window.take(f"key {number}") for number in range(100)] == [0] * 100
    assert await window.take("key 0") == 10
    clock.seconds += 10
    await window.take("another")
    assert list(window._times) == ["another"]


# ── the middleware ──


class Sent:
    """Sends messages through a route and notes which came through."""

    def __init__(self, handling: Handling, *limits: RateLimit) -> None:
        self.came_through: list[str] = []
        router = Router()
        with router.group(middleware=limits) as group:
            group.on("a/{x}", self._note)
            group.on("b/{x}", self._note)
        self._handler = handling(router)

    async def _note(self, context: Any) -> None:
        self.came_through.append(context.topic)

    async def __call__(self, *topics: str) -> None:
        await asyncio.gather(*(self._handler.handle(IncomingMessage(topic, b"")) for topic in topics))


async def test_pitfall_36_five_allowed_means_five(handling: Handling, records: Records, clock: ManualClock) -> None:
    send = Sent(handling, RateLimit(5, per=60, clock=clock))
    for _ in range(10):
        await send(*["a/1"] * 20)
        clock.seconds += 5.9  # ten times are less than a minute
    assert len(send.came_through) == 5
    assert records.kinds().count("MessageHandled") == 5
    dropped = [event for event in records.events if isinstance(event, MessageDropped)]
    assert len(dropped) == 195
    assert dropped[0] == MessageDropped("a/1", "beyond 5 messages in 60 s")
    assert records.failures == []
    clock.seconds += 2
    await send("a/1")
    assert len(send.came_through) == 6


async def test_a_message_is_counted_once_however_often_it_is_tried(
    handling: Handling, records: Records, clock: ManualClock
) -> None:
    outages: list[Exception] = [
        QueueUnavailableError("away"),
        ValueError("broken"),
        QueueUnavailableError("away"),
    ]

    async def controller() -> None:
        if outages:
            raise outages.pop()

    router = Router()
    router.on("a", controller, middleware=[RateLimit(2, per=3600, clock=clock)])
    handler = handling(router)
    for _ in range(3):
        await handler.handle(IncomingMessage("a", b""))
    told = [kind for kind in records.kinds() if kind in ("MessageHandled", "MessageDropped")]
    assert told == ["MessageHandled", "MessageHandled", "MessageDropped"]


async def test_each_route_of_a_group_has_its_own_limit(handling: Handling, clock: ManualClock) -> None:
    send = Sent(handling, RateLimit(1, per=60, clock=clock))
    await send("a/1", "a/2", "b/1", "b/2")
    assert send.came_through == ["a/1", "b/1"]


async def test_the_key_may_be_chosen(handling: Handling, clock: ManualClock) -> None:
    send = Sent(handling, RateLimit(1, per=60, by=lambda context: context["topic"], clock=clock))
    await send("a/1", "a/2", "a/1")
    assert send.came_through == ["a/1", "a/2"]


async def test_limits_stack(handling: Handling, clock: ManualClock) -> None:
    send = Sent(handling, RateLimit(3, per=60, clock=clock), RateLimit(2, per=1, clock=clock))
    await send(*["a/1"] * 3)
    clock.seconds += 1
    await send(*["a/1"] * 3)
    assert len(send.came_through) == 2  # the outer limit counted the third, which the inner one dropped


async def test_a_message_that_waits_comes_through_in_turn(
    handling: Handling, records: Records, clock: ManualClock
) -> None:
    send = Sent(handling, RateLimit(2, per=60, on_excess="wait", clock=clock))
    await send(*(f"a/{number}" for number in range(6)))
    assert send.came_through == [f"a/{number}" for number in range(6)]
    assert clock.slept == [60, 60]
    assert set(records.kinds()) == {"MessageHandled"}


async def test_an_excess_message_may_go_on_record(handling: Handling, records: Records, clock: ManualClock) -> None:
    send = Sent(handling, RateLimit(1, per=60, on_excess="fail", clock=clock))
    await send("a/1", "a/2")
    ((message, exception, attempts),) = records.failures
    assert (message.topic, attempts) == ("a/2", 1)
    assert isinstance(exception, RateLimitedError)
    assert "topic 'a/2' came beyond 1 messages in 60 s" in str(exception)


async def test_a_flood_of_messages_is_no_flood_of_lines(
    handling: Handling, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    send = Sent(handling, RateLimit(1, per=3600, clock=clock))
    with caplog.at_level(logging.WARNING, logger="routemq.rate_limit"):
        await send(*["a/1"] * 101)
        assert [record.message for record in caplog.records] == [
            "dropped 1, beyond 1 messages in 3600 s: topic a/1 and others"
        ]
        clock.seconds += 10
        await send("a/1")
    assert "dropped 100," in caplog.records[1].message


@pytest.mark.parametrize(
    ("limit", "options"),
    [
        (0, {"per": 1}),
        (-1, {"per": 1}),
        (1, {"per": 0}),
        (1, {"per": -1}),
        (1, {"per": 1, "on_excess": "queue"}),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limit: int, options: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        RateLimit(limit, **options)
