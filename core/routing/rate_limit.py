"""Middleware that lets no more than so many messages through in so many seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args
from weakref import WeakValueDictionary

from core.clock import Clock, SystemClock
from core.errors import RateLimitedError, SettingError
from core.middleware import Middleware, NextHandler
from core.redis_manager import redis_manager
from core.routing.context import Context
from core.routing.sliding_window import LocalWindow, RedisWindow, SlidingWindow

_log = logging.getLogger("routemq.rate_limit")
_SECONDS_BETWEEN_LINES = 10.0

OnExcess: TypeAlias = Literal["drop", "wait", "fail"]


class RateLimit(Middleware):
    """At most `limit` messages in any stretch of `per` seconds, exactly.

    Counted in Redis, for all processes together, where REDIS_URL is set; else by each process for itself.

    `by` gives the key under which a message is counted, by default its route's pattern: a limit on a group is
    one limit for each of its routes. `by=lambda context: context.topic` counts each device for itself. Limits
    of the same size whose `by` gives the same text share one count.

    `on_excess` says what becomes of a message beyond the limit:
    - "drop" (the default, for floods of readings): it is acknowledged and left out, told by a MessageDropped
      event each and a line in the log every ten seconds;
    - "wait": it is held until there is room, and keeps its place in the intake, so that pressure reaches
      the broker;
    - "fail": it goes to `failed_jobs`, from where it can be retried.
    """

    def __init__(
        self,
        limit: int,
        *,
        per: float,
        by: Callable[[Context], str] | None = None,
        on_excess: OnExcess = "drop",
        clock: Clock | None = None,
    ) -> None:
        """Raises SettingError where the limit makes no sense."""
        _check(limit, per, on_excess)
        self._limit = limit
        self._per = per
        self._by = by or _route
        self._on_excess = on_excess
        self._clock = clock or SystemClock()
        self._local = LocalWindow(limit, per, self._clock)
        self._remote = RedisWindow(limit, per)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._dropped = 0
        self._next_line = float("-inf")

    async def handle(self, context: Context, next_handler: NextHandler) -> Any:
        # A message that is tried again, its store away for a while, was let in before: it is not counted twice.
        if self not in context.marks and not await self._lets_in(context):
            return None
        context.marks.add(self)
        return await next_handler(context)

    async def _lets_in(self, context: Context) -> bool:
        key = f"{self._limit}/{self._per:g}:{self._by(context)}"
        if self._on_excess == "wait":
            await self._wait_in_turn(key)
        elif await self._window.take(key):
            self._refuse(context)
            return False
        return True

    async def _wait_in_turn(self, key: str) -> None:
        """One at a time per key, first come first served, so that no message is overtaken for ever."""
        async with self._turns.setdefault(key, asyncio.Lock()):
            while wait := await self._window.take(key):
                await self._clock.sleep(wait)

    @property
    def _window(self) -> SlidingWindow:
        """Asked each time, as Redis is set up after the routers are loaded."""
        return self._remote if redis_manager.is_configured else self._local

    def _refuse(self, context: Context) -> None:
        reason = f"beyond {self._limit} messages in {self._per:g} s"
        if self._on_excess == "fail":
            raise RateLimitedError(
                f"topic {context.topic!r} came {reason}; retry it later, or raise the limit of route {context.route!r}"
            )
        context.drop(reason)
        self._log_drop(context)

    def _log_drop(self, context: Context) -> None:
        """A flood of messages is not to become a flood of lines."""
        self._dropped += 1
        now = self._clock.monotonic()
        if now >= self._next_line:
            _log.warning("dropped %d, %s: topic %s and others", self._dropped, context.dropped, context.topic)
            self._dropped, self._next_line = 0, now + _SECONDS_BETWEEN_LINES


def _route(context: Context) -> str:
    return context.route


def _check(limit: int, per: float, on_excess: str) -> None:
    if limit < 1 or per <= 0:
        raise SettingError(f"RateLimit({limit}, per={per}) lets nothing through; both must be above zero")
    if on_excess not in get_args(OnExcess):
        raise SettingError(f"on_excess={on_excess!r} is unknown; use one of {', '.join(get_args(OnExcess))}")
