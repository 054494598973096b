"""Messages that wait for a server out of reach: one tries it now and then, and calls others once it is back.

A thousand controllers, each called again on its own account, would be a busy loop.
"""

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
_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds until the next of those that wait, whichever it is, tries again."""
_CALLED = 8
"""How many others are called by each that has got through. More than one, so that soon all are there; and not all at
once, as the server may be one that takes in a little now and then."""

_Line: TypeAlias = OrderedDict[asyncio.Future[None], None]
"""Those that wait for one server, the longest waiting first: each until its future is done."""


class Outage:
    """Of one router, which may need several servers: who waits here has been refused by one of them."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._is_told = False
        self._waiting = 0  # messages
        self._lines = OrderedDict[str, _Line]()
        """None is empty. By what the server's refusal says, as it names the server; whose turn is next comes first."""
        self._delays = Backoff(_SHORTEST, _LONGEST)
        self._pacer: asyncio.Task[None] | None = None
        """While somebody waits."""

    async def outlast(self, action: Callable[[], Awaitable[None]], is_away: IsAway) -> None:
        """Run the action, for ever again while what it raises `is_away`."""
        refusal = await self._attempt(action, is_away)
        if refusal is not None:
            self._begin_to_wait()
            try:
                while refusal is not None:
                    line = refusal
                    await self._called(line)
                    refusal = await self._attempt(action, is_away)
            except Exception:
                # It may have come that far because the server is back, or have failed before it got to the server:
                # with one, there are never more that try in vain than there are that fail for another reason.
                self._call(1, line)
                raise
            finally:
                self._end_to_wait()
            self._delays.reset()
            self._call(_CALLED, line)
        self._tell_back()

    async def _attempt(self, action: Callable[[], Awaitable[None]], is_away: IsAway) -> str | None:
        """Run the action: None when it is done, the text of what it raised where that `is_away`.

        The error is not handed on: a thousand messages that kept theirs, tracebacks and all, until the next attempt
        would make it too old for the search for cycles to find soon, and memory would grow while a store is away.
        """
        try:
            await action()
        except Exception as error:
            if not is_away(error):
                raise
            self._tell_lost(error)
            return str(error)
        return None

    def _begin_to_wait(self) -> None:
        self._waiting += 1
        if self._pacer is None:
            self._delays.reset()
            self._pacer = asyncio.create_task(self._pace(), name="messages that wait for a store")

    def _end_to_wait(self) -> None:
        self._waiting -= 1
        if self._pacer is not None and not self._waiting:
            self._pacer.cancel()
            self._pacer = None

    async def _called(self, line: str) -> None:
        """Wait until it is this one's turn."""
        call = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, OrderedDict())[call] = None
        try:
            await call
        finally:
            self._take_out(call, line)

    async def _pace(self) -> None:
        while True:
            await self._clock.sleep(self._delays.next())
            if self._lines:  # the lines in turn, so that nobody is kept by those that wait for another server
                line = next(iter(self._lines))
                self._lines.move_to_end(line)
                self._call(1, line)

    def _call(self, number: int, line: str) -> None:
        """Those of this line before others: the same server may refuse in several ways."""
        for _ in range(number):
            if not self._lines:
                return
            name = line if line in self._lines else next(iter(self._lines))
            call = next(iter(self._lines[name]))
            self._take_out(call, name)
            if not call.done():
                call.set_result(None)

    def _take_out(self, call: asyncio.Future[None], name: str) -> None:
        if line := self._lines.get(name):
            line.pop(call, None)
            if not line:
                del self._lines[name]

    def _tell_lost(self, error: Exception) -> None:
        """Once per outage, not once per message that waits."""
        if not self._is_told:
            self._is_told = True
            self._events.emit(StoreLost(_STORE, error, _SHORTEST))

    def _tell_back(self) -> None:
        """One message has reached it; it is back when no other waits for it, which may be for another store."""
        if self._is_told and not self._waiting:
            self._is_told = False
            self._events.emit(StoreBack(_STORE))
