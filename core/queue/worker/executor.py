"""Runs one try of a job and says what came of it. Touches no storage."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from core.errors import EnvelopeError, JobError, JobTimeoutError, MaxTriesExceededError
from core.job import Job, job_name
from core.observability.events import Events, JobStarted
from core.queue.envelope import job_of, load_job, read_envelope
from core.queue.registry import JobRegistry
from core.queue.state import FetchedJob
from core.queue.worker.limits import LimitRules, Limits
from core.queue.worker.outcome import Abandoned, Completed, Failed, Outcome, Released
from core.queue.worker.retry import decide

_log = logging.getLogger("routemq.queue.worker")


class Executor:
    """Load, check the tries, run within the timeout, and turn whatever happened into an outcome.

    Cancel the task that runs `execute` to stop a job early: a coroutine is cancelled and its job Released;
    a thread cannot be stopped, so its job is Abandoned.
    """

    def __init__(self, registry: JobRegistry, rules: LimitRules, *, threads: int = 16, events: Events) -> None:
        self._registry = registry
        self._rules = rules
        self._events = events
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="job")
        self._free_threads = asyncio.Semaphore(threads)
        self._in_threads: set[str] = set()  # ids of the jobs that threads run

    @property
    def has_busy_threads(self) -> bool:
        """Whether a thread still runs a job; it would keep the process from ending."""
        return bool(self._in_threads)

    async def execute(self, fetched: FetchedJob) -> Outcome:
        try:
            job = self._load(fetched)
        except EnvelopeError as error:
            self._started(fetched, job_of(fetched.payload))
            return Failed(error, None)
        self._started(fetched, job_name(type(job)))
        limits = self._rules.of(job)
        if fetched.attempts > limits.max_tries:
            return Failed(_used_up(fetched, limits), job)
        return await self._try(job, fetched.attempts, limits)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _load(self, fetched: FetchedJob) -> Job:
        job = load_job(read_envelope(fetched.payload), self._registry)
        job.job_id, job.queue, job.attempts = fetched.job_id, fetched.queue, fetched.attempts
        return job

    def _started(self, fetched: FetchedJob, name: str) -> None:
        self._events.emit(JobStarted(fetched.job_id, name, fetched.queue, fetched.attempts))

    async def _try(self, job: Job, attempts: int, limits: Limits) -> Outcome:
        run = _run if iscoroutinefunction(job.handle) else self._run_in_thread
        try:
            await run(job, limits.timeout)
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                return Abandoned() if job.job_id in self._in_threads else Released()
            return decide(job, _as_job_error(job, error), attempts, limits)
        except Exception as error:
            return decide(job, error, attempts, limits)
        except SystemExit as error:
            return decide(job, _as_job_error(job, error), attempts, limits)
        return Completed()

    async def _run_in_thread(self, job: Job, timeout: float) -> None:
        """Run `handle` in a thread. One that takes too long is waited for all the same: it cannot be stopped,
        and given back it would run beside itself."""
        running = await self._start_thread(job)
        done, _ = await asyncio.wait({running}, timeout=timeout or None)
        if not done:
            _log.warning(
                "%r runs in a thread beyond its timeout of %g s; its slot is held until it returns",
                job,
                timeout,
            )
            await asyncio.wait({running})
            raise _timed_out(job, timeout)
        running.result()

    async def _start_thread(self, job: Job) -> asyncio.Future[Any]:
        await self._free_threads.acquire()  # here and not in the pool, lest the wait counts towards the timeout
        self._in_threads.add(job.job_id)
        running = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, job.handle)
        running.add_done_callback(partial(self._thread_ended, job.job_id))
        return running

    def _thread_ended(self, job_id: str, running: asyncio.Future[Any]) -> None:
        self._in_threads.discard(job_id)
        self._free_threads.release()
        if not running.cancelled():
            running.exception()  # retrieved, so that an abandoned one is not reported as unseen


async def _run(job: Job, timeout: float) -> None:
    scope = asyncio.timeout(timeout or None)
    try:
        async with scope:
            result = job.handle()
            if result is not None:
                await result
    except TimeoutError:
        if not scope.expired():
            raise  # the job's own
    if scope.expired():  # also where the job swallowed the cancellation
        raise _timed_out(job, timeout)


def _is_being_cancelled() -> bool:
    """Whether somebody cancelled this task, and not the job itself raised CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _as_job_error(job: Job, error: BaseException) -> JobError:
    wrapped = JobError(f"{job_name(type(job))} raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _timed_out(job: Job, timeout: float) -> JobTimeoutError:
    return JobTimeoutError(
        f"{job_name(type(job))} took longer than its timeout of {timeout:g} s (try {job.attempts}). Raise `timeout` "
        f"of the class, --timeout or QUEUE_TIMEOUT if it needs more."
    )


def _used_up(fetched: FetchedJob, limits: Limits) -> MaxTriesExceededError:
    return MaxTriesExceededError(
        f"The job was started {fetched.attempts - 1} times of {limits.max_tries} without reporting back: its worker "
        f"died or lost its lease each time. Look at the workers' logs for what kills them before you retry it."
    )
