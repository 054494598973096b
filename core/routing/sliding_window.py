"""At most so many in any stretch of so many seconds: the exact count behind RateLimit."""

from __future__ import annotations

from collections import OrderedDict, deque
from pathlib import Path
from typing import Protocol, cast

from core.clock import Clock
from core.errors import UnavailableError
from core.redis_client import reached
from core.redis_manager import redis_manager

_TAKE = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_MICROSECONDS = 1_000_000


class SlidingWindow(Protocol):
    async def take(self, key: str) -> float:
        """Take a place: 0 when there was one, otherwise the seconds until the next falls free."""


class LocalWindow:
    """Counts in this process. Holds one number for each one let in within the last `seconds`."""

    def __init__(self, limit: int, seconds: float, clock: Clock) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # the longest idle key first

    async def take(self, key: str) -> float:
        now = self._clock.monotonic()
        self._forget_idle(now)
        times = self._times.setdefault(key, deque(maxlen=self._limit))
        if len(times) == self._limit and times[0] + self._seconds > now:
            return times[0] + self._seconds - now
        times.append(now)  # and the oldest falls out
        self._times.move_to_end(key)
        return 0

    def _forget_idle(self, now: float) -> None:
        while self._times and next(iter(self._times.values()))[-1] + self._seconds <= now:
            self._times.popitem(last=False)


class RedisWindow:
    """Counts in Redis, for all processes together. Raises UnavailableError when Redis gives no answer."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds

    async def take(self, key: str) -> float:
        window = round(self._seconds * _MICROSECONDS)
        client = redis_manager.client()
        script = client.register_script(_TAKE)
        try:
            async with reached(client):
                wait = await script(keys=[redis_manager.key(f"rate-limit:{key}")], args=[self._limit, window])
        except UnavailableError as error:
            raise UnavailableError(f"cannot count for rate limits: {error}", server=error.server) from error
        return cast(int, wait) / _MICROSECONDS
