"""Pushes, as this process hears of them: its own at once, those of others through the channel of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from core.queue.driver import WakeUp


class Channel(Protocol):
    """How processes that share a store tell each other of a push."""

    def may_carry(self) -> bool:
        """Whether the push that comes now is to tell the other processes itself, within its own write."""

    def announce(self, queues: Iterable[str], *, is_notified: bool = False) -> None:
        """Something was pushed and is stored: tell the waiting of every process. Returns at once.

        `is_notified` says that the push has told the other processes.
        """

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        """A wake-up for these queues."""

    async def close(self) -> None:
        """Let the last announcement go out, and give back connections and tasks."""


class Pushes:
    """Hands what it is told to those who wait."""

    def __init__(self) -> None:
        self._waiting: set[PushedWakeUp] = set()

    def tell(self, queues: Iterable[str]) -> None:
        """Wake those who wait for one of these queues."""
        pushed = set(queues)
        for each in self._waiting:
            if not pushed.isdisjoint(each.queues):
                each.pushed.set()

    def tell_all(self) -> None:
        """Wake everyone: something may have been missed."""
        for each in self._waiting:
            each.pushed.set()

    def wake_up(self, queues: Iterable[str]) -> PushedWakeUp:
        wake_up = PushedWakeUp(self, frozenset(queues))
        self._waiting.add(wake_up)
        return wake_up

    def forget(self, wake_up: PushedWakeUp) -> None:
        self._waiting.discard(wake_up)


class PushedWakeUp:
    """Remembers a push from the moment it is told until a `wait` returns it, so that none falls in between."""

    def __init__(self, pushes: Pushes, queues: frozenset[str]) -> None:
        self.queues = queues
        self.pushed = asyncio.Event()
        self._pushes = pushes

    async def wait(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self.pushed.wait()
        except TimeoutError:
            pass
        pushed = self.pushed.is_set()
        self.pushed.clear()
        return pushed

    async def close(self) -> None:
        self._pushes.forget(self)
