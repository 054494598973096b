from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from core.controller import Handler
from core.mqtt.message import IncomingMessage
from core.observability.events import Event, Events
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable


class ManualClock:
    """Stands still, except that whoever sleeps moves it on."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


class Records:
    """What was given up, and what was told."""

    def __init__(self) -> None:
        self.failures: list[tuple[IncomingMessage, BaseException, int]] = []
        self.events: list[Event] = []
        self.bus = Events()
        self.bus.subscribe(Event, self.events.append)

    async def record_failure(
        self, message: IncomingMessage, exception: BaseException, attempts: int, job_id: str
    ) -> None:
        self.failures.append((message, exception, attempts))

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


Handling = Callable[..., MessageHandler]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def handling(clock: ManualClock, records: Records) -> Handling:
    """A message handler for one route, or for a router."""

    def make(route: str | Router, handler: Handler | None = None, **options: object) -> MessageHandler:
        router = route if isinstance(route, Router) else Router()
        if isinstance(route, str):
            assert handler is not None
            router.on(route, handler)
        settings = {
            "events": records.bus,
            "record_failure": records.record_failure,
            "clock": clock,
            **options,
        }
        return MessageHandler(RouteTable([router]), **settings)  # type: ignore[arg-type]

    return make
