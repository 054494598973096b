"""How fast a counter counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from core.clock import Clock, SystemClock


class Rate:
    """Events per second over the last few seconds, so that the number can be read while it changes."""

    def __init__(self, count: Callable[[], int], *, over: float = 5.0, clock: Clock | None = None) -> None:
        self._count = count
        self._over = over
        self._clock = clock or SystemClock()
        self._samples: deque[tuple[float, int]] = deque([(self._clock.monotonic(), count())])

    def now(self) -> float:
        """The rate at this moment; to be asked regularly."""
        now, count = self._clock.monotonic(), self._count()
        self._samples.append((now, count))
        while now - self._samples[0][0] > self._over and len(self._samples) > 2:
            self._samples.popleft()
        then, before = self._samples[0]
        return (count - before) / (now - then) if now > then else 0.0
