"""Time as the process sees it, in one replaceable object.

Leases, due times and expiry never ask this clock: they live by the store's (DESIGN section 6). It
serves intervals inside a process, so that a test can move time instead of waiting for it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from math import nan
from typing import Protocol

CENTURY = 100 * 365 * 86400.0
"""Seconds; no duration that anybody sets may be longer: beyond, sums of moments leave what dates can hold."""


_NUMBERS = (int, float)


def in_seconds(given: object) -> float:
    """A number of seconds, or a timedelta; of anything else NaN, which lies in no range."""
    if type(given) in _NUMBERS:  # of every dispatch, so it comes first
        return given  # type: ignore[return-value]
    if isinstance(given, timedelta):
        return given.total_seconds()
    return float(given) if isinstance(given, _NUMBERS) and not isinstance(given, bool) else nan


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes backwards."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # not above: --help wants durations, and no event loop

        await asyncio.sleep(seconds)


since_boot: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds since the machine was started; where the system counts them (Linux), those of its suspensions as well."""


def jittered(seconds: float, spread: float = 0.25) -> float:
    """`seconds`, moved by up to ± `spread` of itself, so that a herd of processes does not act in step."""
    return seconds * random.uniform(1 - spread, 1 + spread)


class Backoff:
    """Growing, jittered delays in seconds: `minimum`, then twice as long each time, up to `maximum`."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self.reset()

    def reset(self) -> None:
        self._next = self._minimum

    def next(self) -> float:
        delay = self._next
        self._next = min(self._next * 2, self._maximum)
        return jittered(delay)
