"""How long connecting may take: a time of its own, and no longer than what connects is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from core.redis_client import ClosedError
from core.tasks import end_tasks

BY_US = "the connection was closed by this process"
"""The reason of an end, unless another one is given."""

T = TypeVar("T")


class Lifetime:
    """Of something that connects when it is asked. Once this has ended, nothing is connected for it any more."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that each wait for a connection may take."""
        self._timeout = timeout
        self._ended_for: str | None = None
        self._works: set[asyncio.Task[Any]] = set()

    def require(self) -> None:
        """Raises ClosedError, with the reason, once it has ended."""
        if self._ended_for is not None:
            raise ClosedError(self._ended_for)

    async def limit(self, work: Callable[[], Coroutine[Any, Any, T]], lack: str) -> T:
        """What `work` returns, which does the connecting.

        Raises redis.TimeoutError after the timeout, with `lack` for what there is not; and as `require`, at once,
        where this ends meanwhile.
        """
        self.require()
        task = asyncio.create_task(work(), name="redis-connect")  # of its own, to be ended: see end_tasks
        self._works.add(task)
        task.add_done_callback(self._forget)  # however often whoever waits here is cancelled
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.wait([task])
        except TimeoutError as error:
            raise RedisTimeoutError(f"{lack} within {self._timeout:g} s") from error
        finally:
            await end_tasks(task)
        self.require()
        return task.result()

    async def end(self, reason: str = BY_US) -> None:
        """Returns when no work goes on any longer. Where this has ended already, the first reason holds."""
        self._ended_for = self._ended_for or reason
        await end_tasks(*self._works)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._works.discard(task)
        if not task.cancelled():
            task.exception()  # so that it does not count as unseen
