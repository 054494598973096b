"""A message, handled by one controller as a router handles it, but without waiting between the tries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.clock import SystemClock
from core.mqtt.message import IncomingMessage
from core.observability.events import Events
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable

MESSAGE = IncomingMessage("pumps/7", b"", qos=1)


class AtOnce(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def handle(controller: Callable[..., object], *, times: int = 1) -> None:
    """So many times; that none is given up is asserted."""
    router = Router()
    router.on("pumps/{pump}", controller)
    given_up: list[tuple[object, ...]] = []

    async def record(*failure: object) -> None:
        given_up.append(failure)

    handler = MessageHandler(RouteTable([router]), events=Events(), record_failure=record, clock=AtOnce())
    for _ in range(times):
        await handler.handle(MESSAGE)
    assert not given_up
