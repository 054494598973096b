"""For a store that has no channel: a look at it, again and again, so cheap that it may be frequent."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from core.clock import jittered
from core.queue.drivers.wake_up.pushes import PushedWakeUp

_log = logging.getLogger("routemq.queue.wake_up")


class Lookout(Protocol):
    async def sees_push(self) -> bool:
        """Whether another process may have pushed since this was last asked. Never raises for a lost store."""

    def close(self) -> None: ...


class PollingWakeUp:
    """Wakes at once for a push of this process, and at the next look for one of another."""

    def __init__(self, pushed: PushedWakeUp, lookout: Lookout, shortest: float, longest: float) -> None:
        """A wait looks first after `shortest` seconds, then ever more rarely, up to every `longest`."""
        self._pushed = pushed
        self._lookout = lookout
        self._shortest = shortest
        self._longest = longest
        self._is_blind = False

    async def wait(self, timeout: float) -> bool:
        clock = asyncio.get_running_loop()
        end = clock.time() + timeout
        pause = self._shortest
        while not await self._pushed.wait(min(jittered(pause), max(end - clock.time(), 0))):
            if await self._sees_push():
                return True
            if clock.time() >= end:
                return False
            pause = min(pause * 1.5, self._longest)
        return True

    async def _sees_push(self) -> bool:
        """A look that fails has seen nothing, whatever the error: raised from here, it would end an idle worker,
        which does without looks until the end of its wait. Told once per trouble, as looks are many."""
        try:
            seen = await self._lookout.sees_push()
        except Exception:
            if not self._is_blind:
                _log.exception("cannot look for pushes of other processes: those are found after --sleep for now")
            self._is_blind = True
            return False
        self._is_blind = False
        return seen

    async def close(self) -> None:
        self._lookout.close()
        await self._pushed.close()
