"""What is told of a store that a worker cannot reach: once, however many of its services wait for it."""

from __future__ import annotations

import asyncio
from functools import partial

from core.observability.events import Events, StoreBack, StoreLost

_STORE = "queue"


class Outage:
    """Of one worker. It is over once no service waits any more."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._waiting = 0
        self._is_back = False  # one has an answer

    def begin(self, error: Exception, retry_in: float) -> None:
        """A service waits, and calls the store again, for the first time in `retry_in` seconds."""
        self._waiting += 1
        if self._waiting == 1:
            self._is_back = False
            self._events.emit(StoreLost(_STORE, error, retry_in))

    def end(self, *, is_back: bool) -> None:
        """It does not wait any more: it has an answer, or else was ended."""
        self._waiting -= 1
        self._is_back |= is_back
        if self._is_back and not self._waiting:
            self._events.emit(StoreBack(_STORE))


class OutageElsewhere(Outage):
    """The same outage, for a service in another thread than the worker's: subscribers know nothing of threads."""

    def __init__(self, outage: Outage, loop: asyncio.AbstractEventLoop) -> None:
        self._outage = outage
        self._loop = loop

    def begin(self, error: Exception, retry_in: float) -> None:
        self._loop.call_soon_threadsafe(self._outage.begin, error, retry_in)

    def end(self, *, is_back: bool) -> None:
        self._loop.call_soon_threadsafe(partial(self._outage.end, is_back=is_back))
