"""Runs jobs whose `handle` is not async, each in a thread. A thread cannot be stopped."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from core.job import Job
from core.queue.worker.limits import Limits, timed_out
from core.queue.worker.soft_timeout import ThreadCall

_log = logging.getLogger("routemq.queue.worker")


class ThreadRunner:
    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="job")
        self._free = asyncio.Semaphore(threads)
        self._running: set[str] = set()  # ids of the jobs that threads run

    @property
    def is_busy(self) -> bool:
        """Whether a thread still runs a job; it would keep the process from ending."""
        return bool(self._running)

    def runs(self, job_id: str) -> bool:
        return job_id in self._running

    async def run(self, job: Job, limits: Limits) -> None:
        """Run `handle`. One that takes too long is waited for all the same: it cannot be stopped, and given back
        it would run beside itself. Raises JobTimeoutError once it has returned."""
        call = ThreadCall(job.handle)
        running = await self._start(job.job_id, call)
        if await self._is_done(running, call, limits):
            running.result()
            return
        _log.warning(
            "%r runs in a thread beyond its timeout of %g s; its slot is held until it returns", job, limits.timeout
        )
        await asyncio.wait({running})
        raise timed_out(job, limits)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _start(self, job_id: str, call: ThreadCall) -> asyncio.Future[None]:
        await self._free.acquire()  # here and not in the pool, lest the wait counts towards the timeout
        self._running.add(job_id)
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        running.add_done_callback(partial(self._ended, job_id))
        return running

    async def _is_done(self, running: asyncio.Future[None], call: ThreadCall, limits: Limits) -> bool:
        """Whether the call returned within its timeout."""
        soft = limits.soft_timeout
        timer = asyncio.get_running_loop().call_later(soft, call.interrupt) if soft else None
        try:
            done, _ = await asyncio.wait({running}, timeout=limits.timeout or None)
        finally:
            if timer is not None:
                timer.cancel()
        return bool(done)

    def _ended(self, job_id: str, running: asyncio.Future[None]) -> None:
        self._running.discard(job_id)
        self._free.release()
        if not running.cancelled():
            running.exception()  # retrieved, so that an abandoned one is not reported as unseen
