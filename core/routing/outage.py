"""Messages that wait for a server which cannot be reached: all together they try it at one pace, however many wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from core.clock import Backoff, Clock
from core.observability.events import Events, StoreBack, StoreLost

IsAway: TypeAlias = Callable[[Exception], bool]
"""Whether an error says that a server cannot be reached, and is to be waited for."""

_STORE = "store that messages need"
_SHORTEST, _LONGEST = 0.1, 2.0
"""Seconds between two attempts of one message, as far as `_APART` lets it."""
_APART = 0.1
"""Seconds between two attempts of all that wait: a thousand controllers, each called on its own account, would be a
busy loop."""
_CALLED = 8
"""How many are called by each that has got through. More than one, so that soon all are there; and not all at once, as
they may wait for another server, or for one that takes in a little now and then."""


class Outage:
    """Of one router, which may need several servers: who waits here has been refused by one of them."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._is_on = False
        self._waiting = 0  # messages
        self._pauses = OrderedDict[asyncio.Future[None], None]()  # the oldest first; a dict finds those but slowly
        self._pace = asyncio.Lock()

    async def outlast(self, action: Callable[[], Awaitable[None]], is_away: IsAway) -> None:
        """Run the action, for ever again while what it raises `is_away`."""
        delays = Backoff(_SHORTEST, _LONGEST)
        delay = await self._attempt(action, is_away, delays)
        if delay is not None:
            self._waiting += 1
            try:
                while delay is not None:
                    await self._pause(delay)
                    delay = await self._attempt(action, is_away, delays)
            except Exception:  # of the action's own
                self._call_others()
                raise
            finally:
                self._waiting -= 1
            self._call_others()
        self._was_reached()

    async def _attempt(self, action: Callable[[], Awaitable[None]], is_away: IsAway, delays: Backoff) -> float | None:
        """Run the action: None when it is done, the seconds to the next attempt where what it raised `is_away`.

        The error is not handed on: a thousand messages that kept theirs, tracebacks and all, until the next attempt
        would make it too old for the search for cycles to find soon, and memory would grow while a store is away.
        """
        try:
            await action()
        except Exception as error:
            if not is_away(error):
                raise
            delay = delays.next()
            self._tell(error, delay)
            return delay
        return None

    async def _pause(self, delay: float) -> None:
        """Until this one's turn has come after the delay, or it is called."""
        pause = asyncio.ensure_future(self._until_turn(delay))
        self._pauses[pause] = None
        try:
            await asyncio.wait({pause})
        finally:
            pause.cancel()
            self._pauses.pop(pause, None)

    async def _until_turn(self, delay: float) -> None:
        await self._clock.sleep(delay)
        async with self._pace:
            await self._clock.sleep(_APART)

    def _call_others(self) -> None:
        for _ in range(min(_CALLED, len(self._pauses))):
            pause, _ = self._pauses.popitem(last=False)
            pause.cancel()

    def _tell(self, error: Exception, retry_in: float) -> None:
        """Once per outage, not once per message that waits."""
        if not self._is_on:
            self._is_on = True
            self._events.emit(StoreLost(_STORE, error, retry_in))

    def _was_reached(self) -> None:
        """By one message; it is back when no other waits for it, which may be for another store."""
        if self._is_on and not self._waiting:
            self._is_on = False
            self._events.emit(StoreBack(_STORE))
