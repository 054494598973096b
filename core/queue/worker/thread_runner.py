"""Runs users' plain functions in a bounded number of threads, and waits for each of them to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from core.queue.worker.soft_timeout import ThreadCall
from core.threads import plainly_as

_log = logging.getLogger("routemq.queue.worker")


class OverranError(Exception):
    """A function returned, or raised, only after its time was over."""


class ThreadRunner:
    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="job")
        self._free = asyncio.Semaphore(threads)
        self.running: set[Hashable] = set()
        """The keys of what threads run at the moment; such a thread keeps the process from ending."""

    async def run(
        self, call: Callable[[], Any], key: Hashable, timeout: float, soft_timeout: float = 0.0, *, name: str
    ) -> Any:
        """What `call` returns. One that takes longer than `timeout` seconds (0: no limit) is waited for all the
        same, as a thread cannot be stopped; then it raises OverranError. The log calls it `name`.

        After `soft_timeout` seconds (0: never), SoftTimeout is raised inside it. Cancelled, this stops waiting,
        and the thread goes on: `key` stays in `running` until it returns.
        """
        await self._free.acquire()  # here and not in the pool, lest the wait counts towards the timeout
        self.running.add(key)
        work = ThreadCall(partial(plainly_as, name, call))
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        running.add_done_callback(partial(self._ended, key))
        with work.interrupted_after(soft_timeout):
            await _wait(running, timeout)
        if not running.done():
            _log.warning("%s runs in a thread beyond its %g s; its slot is held until it returns", name, timeout)
            await _wait(running)
            raise OverranError
        return running.result()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, key: Hashable, running: asyncio.Future[Any]) -> None:
        self.running.discard(key)
        self._free.release()
        if not running.cancelled():
            running.exception()  # looked at, so that an abandoned one is not reported as unseen


async def _wait(running: asyncio.Future[Any], timeout: float = 0.0) -> None:
    """At most `timeout` seconds (0: no limit). A cancellation that comes when the call is done comes too late."""
    try:
        await asyncio.wait({running}, timeout=timeout or None)
    except asyncio.CancelledError:
        if not running.done():
            raise
