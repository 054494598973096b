"""How long connecting may take: a time of its own, and no longer than what connects is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.tasks import end_tasks

T = TypeVar("T")


class Lifetime:
    """Of something that connects when it is asked. Once this has ended, nothing is connected for it any more."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that each wait for a connection may take."""
        self._timeout = timeout
        self._has_ended = False
        self._works: set[asyncio.Task[Any]] = set()

    def require(self) -> None:
        """Raises redis.ConnectionError once it has ended."""
        if self._has_ended:
            raise RedisConnectionError("the connection was closed by this process")

    async def limit(self, work: Callable[[], Coroutine[Any, Any, T]], lack: str) -> T:
        """What `work` returns, which does the connecting.

        Raises redis.TimeoutError after the timeout, with `lack` for what there is not; and as `require`, at once,
        where this ends meanwhile.
        """
        self.require()
        task = asyncio.create_task(work(), name="redis-connect")  # of its own, to be ended: see end_tasks
        self._works.add(task)
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.wait([task])
        except TimeoutError as error:
            raise RedisTimeoutError(f"{lack} within {self._timeout:g} s") from error
        finally:
            await end_tasks(task)
            self._works.discard(task)
            await asyncio.gather(task, return_exceptions=True)  # so that no exception counts as unseen
        self.require()
        return task.result()

    async def end(self) -> None:
        """Returns when no work goes on any longer. Where this has ended already, it does nothing more."""
        self._has_ended = True
        await end_tasks(*self._works)
