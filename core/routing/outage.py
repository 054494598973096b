"""Messages that wait for a server out of reach: one tries it now and then, and calls others once it is back.

A thousand controllers, each called again on its own account, would be a busy loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import TypeAlias

from core.clock import Backoff, Clock
from core.errors import UnavailableError
from core.observability.events import Events, StoreBack, StoreLost
from core.tasks import forget_cancellation, is_cancelled_for_stop

IsAway: TypeAlias = Callable[[Exception], bool]
"""Whether an error says that a server cannot be reached, and is to be waited for."""

_STORE = "store that messages need"
_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds until the next of those that wait for one server, whichever it is, tries again."""
_CALLED = 8
"""How many others are called by each that has got through. More than one, so that soon all are there; and not all at
once, as the server may be one that takes in a little now and then."""
_SURE = 5
"""So many in a row that fail at something else would hardly do so with the server away: each had been refused by it."""


class Outage:
    """Of one router, which may need several servers: who waits here has been refused by one of them."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._is_told = False
        self._lines: dict[str, _Line] = {}
        """By server. None is empty."""

    async def outlast(self, action: Callable[[], Awaitable[None]], is_away: IsAway) -> None:
        """Run the action, for ever again while what it raises `is_away`."""
        refused_by = await self._attempt(action, is_away)
        while refused_by is not None:
            server = refused_by
            with self._line(server) as line:
                while refused_by == server:
                    refused_by = await line.attempt_in_turn(partial(self._attempt, action, is_away))
        self._tell_back()

    async def _attempt(self, action: Callable[[], Awaitable[None]], is_away: IsAway) -> str | None:
        """Run the action: None when it is done, or the server that it was refused by.

        The error is not handed on: a thousand messages that kept theirs, tracebacks and all, until the next attempt
        would make it too old for the search for cycles to find soon, and memory would grow while a store is away.
        """
        try:
            await action()
        except Exception as error:
            if is_cancelled_for_stop():  # which a library, or a controller, has taken for an outage
                raise asyncio.CancelledError from error
            if not is_away(error):
                raise
            forget_cancellation()
            self._tell_lost(error)
            return _server_of(error)
        return None

    @contextmanager
    def _line(self, server: str) -> Iterator[_Line]:
        """Stand in the line of a server, during the attempts too."""
        line = self._lines.get(server) or _Line(server, self._clock)
        self._lines[server] = line
        line.join()
        try:
            yield line
        finally:
            if line.leave():
                del self._lines[server]

    def _tell_lost(self, error: Exception) -> None:
        """Once per outage, not once per message that waits."""
        if not self._is_told:
            self._is_told = True
            self._events.emit(StoreLost(_STORE, error, _SHORTEST))

    def _tell_back(self) -> None:
        """One message has reached it; it is back when no other waits for it, which may be for another store."""
        if self._is_told and not self._lines:
            self._is_told = False
            self._events.emit(StoreBack(_STORE))


class _Line:
    """Those that wait for one server."""

    def __init__(self, server: str, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._members = 0
        self._calls = deque[asyncio.Future[None]]()
        """Of those that are not under way, whose last attempt is the longest ago first: each waits for its future."""
        self._answers = 0  # since the last refusal
        self._delays = Backoff(_SHORTEST, _LONGEST)
        self._pacer: asyncio.Task[None] | None = None

    def join(self) -> None:
        if self._pacer is None:
            # In a context of its own: that of the first message would keep whatever that has dispatched.
            self._pacer = asyncio.create_task(self._pace(), name=f"waits for {self._server}", context=Context())
        self._members += 1

    def leave(self) -> bool:
        """Whether that was the last one."""
        self._members -= 1
        if not self._members and self._pacer is not None:
            self._pacer.cancel()
        return not self._members

    async def attempt_in_turn(self, attempt: Callable[[], Awaitable[str | None]]) -> str | None:
        """What the attempt returns, or raises: that may be what it fails with before it gets to the server. So others
        are called by it, but there are never more of them under way than fail so, until that is no chance any more."""
        await self._turn()
        try:
            refused_by = await attempt()
        except BaseException:
            self._is_answered(is_through=False)
            raise
        if refused_by == self._server:
            self._answers = 0
        else:
            self._is_answered(is_through=refused_by is None)
        return refused_by

    async def _turn(self) -> None:
        call = asyncio.get_running_loop().create_future()
        self._calls.append(call)
        try:
            await call
        except asyncio.CancelledError:
            if not call.cancelled():  # it was called, and leaves that to the next
                self._call(1)
            raise

    async def _pace(self) -> None:
        while True:
            await self._clock.sleep(self._delays.next())
            self._call(_CALLED if self._answers else 1)

    def _is_answered(self, *, is_through: bool) -> None:
        self._answers += 1
        self._call(_CALLED if is_through or self._answers >= _SURE else 1)

    def _call(self, number: int) -> None:
        while number and self._calls:
            call = self._calls.popleft()
            if not call.done():  # cancelled
                call.set_result(None)
                number -= 1


def _server_of(error: Exception) -> str:
    """The server as its driver names it. What the app raises, and what failed records are refused with, by its type."""
    server = error.server if isinstance(error, UnavailableError) else ""
    return server or type(error).__qualname__
