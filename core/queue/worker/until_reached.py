"""Calls a store until it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.clock import Backoff
from core.errors import QueueUnavailableError
from core.queue.worker.outage import Outage

_log = logging.getLogger("routemq.queue.worker")

T = TypeVar("T")

LONGEST = 3.0


async def until_reached(call: Callable[[], Awaitable[T]], outage: Outage, longest: float = LONGEST) -> T:
    """What `call` returns, once the store can be reached; in between, waits with growing, jittered delays, up to
    `longest` seconds.

    Raises what else `call` raises.
    """
    try:
        return await call()
    except QueueUnavailableError as error:
        backoff = Backoff(min(0.05, longest), longest)
        delay = backoff.next()
        outage.begin(error, delay)
    is_back = True  # with whatever answer, be it an error
    try:
        while True:
            await asyncio.sleep(delay)
            try:
                return await call()
            except QueueUnavailableError:
                delay = backoff.next()
    except asyncio.CancelledError:
        is_back = False
        raise
    finally:
        outage.end(is_back=is_back)


async def until_answered(call: Callable[[], Awaitable[T]], outage: Outage, longest: float = LONGEST) -> T:
    """As `until_reached`; an error that nobody foresaw is logged, and the call made again as well.

    For the services of a worker: one that died would leave its jobs without leases, or the queue unserved.
    """
    backoff = Backoff(0.5, 30.0)
    while True:
        try:
            return await until_reached(call, outage, longest)
        except Exception:
            delay = backoff.next()
            _log.exception("the store gave an unexpected answer; asking again in %.1f s", delay)
            await asyncio.sleep(delay)
