"""From where a fetch reads the index of a long queue.

What is done stays in the index until a vacuum (PostgreSQL) or a purge (InnoDB) has come by: a fetch that begins at
the front reads past all of it, a few hundred thousand entries for a few jobs. So while a queue fills each fetch, the
next one begins where that began. A job may lie before that nevertheless, released or rescued by another process, or
pushed by a transaction that was long in committing: it is found as soon as a fetch is not filled, and at the latest
after a second.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

Rows: TypeAlias = Sequence[Any]
"""In order, with `available_at` in the first column."""

LONGEST = 1.0
"""Seconds until a fetch begins at the front again."""


class Floors:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._floors: dict[str, tuple[Any, float]] = {}  # the floor, and when a fetch last began at the front

    async def fetch(self, queue: str, limit: int, take: Callable[[Any, int], Awaitable[Rows]]) -> Rows:
        """What `take` takes of a queue, given the moment (None for the front) before which it need not look, and
        how many."""
        floor, looked = self._floors.get(queue, (None, 0.0))
        if floor is None or self._clock() - looked >= LONGEST:
            floor, looked = None, self._clock()
        taken = await take(floor, limit)
        if len(taken) == limit:
            self._floors[queue] = taken[0][0], looked
            return taken
        self.forget(queue)
        return taken if floor is None else [*await take(None, limit - len(taken)), *taken]

    def forget(self, queue: str) -> None:
        """Something may have been put before the floor."""
        self._floors.pop(queue, None)
