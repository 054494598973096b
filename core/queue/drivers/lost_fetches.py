"""Fetches whose answer got lost: the store may have leased jobs and counted their tries, and nobody knows of it.

Such jobs are known by the token of that fetch. The next one from that queue takes them over under a token of its own,
and counts nothing; as do all others for a while, since what was asked of a server that stood still may be done after
what was asked later on another connection. Where no fetch comes before the lease is over, the rescuer has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from uuid import uuid4

KEPT = 5.0
"""Seconds that a token is asked for, once the store has answered again."""
MOST = 100
"""Tokens kept for a queue: the first of an outage, when the server may still have heard of them."""

_FOR_EVER = float("inf")


class LostFetches:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lost: dict[str, dict[str, float]] = {}  # by queue: tokens, and until when they are asked for

    def first(self, queues: Sequence[str]) -> Sequence[str]:
        """The queues in their order, and before them those that may hold such jobs."""
        return sorted(queues, key=lambda queue: queue not in self._lost) if self._lost else queues

    def call(self, queue: str) -> FetchCall:
        """To be entered around a fetch from one queue."""
        return FetchCall(self, queue)

    def of(self, queue: str) -> list[str]:
        return list(self._lost[queue]) if queue in self._lost else []

    def add(self, queue: str, tokens: Sequence[str]) -> None:
        lost = self._lost.setdefault(queue, {})
        for token in tokens[: MOST - len(lost)]:
            lost[token] = _FOR_EVER

    def answered(self, queue: str) -> None:
        """The store has been asked for them."""
        now = self._clock()
        left = {token: min(until, now + KEPT) for token, until in self._lost[queue].items() if until > now}
        if left:
            self._lost[queue] = left
        else:
            del self._lost[queue]


class FetchCall:
    """One fetch from one queue, in one attempt or several."""

    __slots__ = ("_fetches", "_queue", "_tokens")

    def __init__(self, fetches: LostFetches, queue: str) -> None:
        self._fetches = fetches
        self._queue = queue
        self._tokens: list[str] = []

    def attempt(self) -> tuple[str, list[str]]:
        """A new token, and those under which there may be jobs to take over first: the earlier attempts' as well."""
        lost = [*self._fetches.of(self._queue), *self._tokens]
        self._tokens.append(token := uuid4().hex)
        return token, lost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        unanswered = self._tokens if kind is not None else self._tokens[:-1]
        if unanswered:
            self._fetches.add(self._queue, unanswered)
        if kind is None and self._fetches.of(self._queue):
            self._fetches.answered(self._queue)
