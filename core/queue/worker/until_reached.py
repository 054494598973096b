"""Calls a store until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.clock import Backoff
from core.errors import QueueUnavailableError
from core.observability.events import Events, StoreBack, StoreLost

T = TypeVar("T")


async def until_reached(call: Callable[[], Awaitable[T]], events: Events) -> T:
    """What `call` returns, once the store can be reached; in between, waits with growing, jittered delays."""
    backoff, lost = Backoff(0.05, 3.0), False
    while True:
        try:
            result = await call()
        except QueueUnavailableError as error:
            lost, delay = True, backoff.next()
            events.emit(StoreLost("queue", error, delay))
            await asyncio.sleep(delay)
        else:
            if lost:
                events.emit(StoreBack("queue"))
            return result
