"""The child processes of a worker: started when a job first needs them, and recycled.

A pool of our own, as that of the standard library cannot kill one child and go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from core.clock import Backoff
from core.errors import JobProcessDiedError, JobProcessRaisedError
from core.job import Job, job_name
from core.queue.state import FetchedJob
from core.queue.worker.job_process import JobProcess
from core.queue.worker.limits import Limits, timed_out
from core.queue.worker.process_wire import FromChild, Raised, Setup, Work

_log = logging.getLogger("routemq.queue.worker")


class ProcessPool:
    """`run` a job in one of `size` processes; each is replaced after `max_jobs` jobs, and when it dies.

    `setup` is asked when a process starts.
    """

    def __init__(self, size: int, max_jobs: int, setup: Callable[[], Setup]) -> None:
        self._max_jobs = max_jobs
        self._setup = setup
        self._free = asyncio.Semaphore(size)
        self._idle: list[JobProcess] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, fetched: FetchedJob, job: Job, limits: Limits) -> None:
        """Run a try. Beyond its timeout, and when cancelled, its process is killed, and no other.

        Raises JobProcessRaisedError for what the job raised, JobProcessDiedError, and JobTimeoutError.
        """
        work = Work(fetched.job_id, fetched.queue, fetched.payload, fetched.attempts, limits.soft_timeout)
        async with self._free:
            process = await self._take()
            try:
                answer = await self._answer(process, work, job, limits)
            finally:
                self._give_back(process)
        if isinstance(answer, Raised):
            raise JobProcessRaisedError(answer.message, answer.traceback, wants_retry=answer.wants_retry)

    async def close(self) -> None:
        """End the processes. Those whose job was cancelled are dead already."""
        for process in self._idle:
            self._retire(process)
        self._idle.clear()
        await asyncio.gather(*self._ending)

    async def _answer(self, process: JobProcess, work: Work, job: Job, limits: Limits) -> FromChild:
        async with AsyncExitStack() as unless_answered:
            unless_answered.push_async_callback(process.kill)
            try:
                async with asyncio.timeout(limits.timeout or None):
                    answer = await process.run(work)
            except TimeoutError:
                raise timed_out(job, limits.timeout) from None
            except JobProcessDiedError as error:
                raise JobProcessDiedError(f"{job_name(type(job))} (try {job.attempts}): {error}") from None
            unless_answered.pop_all()
            return answer

    async def _take(self) -> JobProcess:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
        return await self._start()

    async def _start(self) -> JobProcess:
        """A new process. One that does not come up is no fault of the job, which waits for the next attempt."""
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                return await JobProcess.start(self._setup())
            except (JobProcessDiedError, OSError) as error:
                delay = backoff.next()
                _log.error("cannot start a process for jobs: %s; trying again in %.1f s", error, delay)
                await asyncio.sleep(delay)

    def _give_back(self, process: JobProcess) -> None:
        if not process.is_alive:
            return
        if process.jobs < self._max_jobs:
            self._idle.append(process)
        else:
            self._retire(process)

    def _retire(self, process: JobProcess) -> None:
        task = asyncio.create_task(process.end(), name=f"end-job-process-{process.pid}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
