"""What is told of a store that a worker cannot reach: once, however many of its services wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from core.observability.events import Events, StoreBack, StoreLost

_STORE = "queue"


class Outage:
    """Of one worker. It is over once no service waits any more."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._waiting = 0

    @contextmanager
    def waited_for(self, error: Exception, retry_in: float) -> Iterator[None]:
        """A service calls the store again and again, for the first time in `retry_in` seconds; the block is left with
        an answer, be it an error, or by being cancelled."""
        self.begin(error, retry_in)
        is_back = True
        try:
            yield
        except asyncio.CancelledError:
            is_back = False
            raise
        finally:
            self.end(is_back=is_back)

    def begin(self, error: Exception, retry_in: float) -> None:
        self._waiting += 1
        if self._waiting == 1:
            self._events.emit(StoreLost(_STORE, error, retry_in))

    def end(self, *, is_back: bool) -> None:
        self._waiting -= 1
        if is_back and not self._waiting:
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
