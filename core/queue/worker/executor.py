"""Runs one try of a job and says what came of it. Touches no storage."""

from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction

from core.errors import EnvelopeError, JobError, JobProcessRaisedError, MaxTriesExceededError
from core.job import Job, job_name
from core.observability.events import Events, JobStarted
from core.queue.envelope import job_of, load_job, read_envelope
from core.queue.registry import JobRegistry
from core.queue.state import FetchedJob
from core.queue.worker.limits import LimitRules, Limits, timed_out
from core.queue.worker.outcome import Abandoned, Completed, Failed, Outcome, Released
from core.queue.worker.process_pool import ProcessPool
from core.queue.worker.retry import decide
from core.queue.worker.soft_timeout import run_coroutine
from core.queue.worker.thread_runner import ThreadRunner


class Executor:
    """Load, check the tries, run within the timeout, and turn whatever happened into an outcome.

    Cancel the task that runs `execute` to stop a job early: a coroutine is cancelled, a child process killed,
    and its job Released; a thread cannot be stopped, so its job is Abandoned.
    """

    def __init__(
        self, registry: JobRegistry, rules: LimitRules, *, processes: ProcessPool, threads: int = 16, events: Events
    ) -> None:
        self._registry = registry
        self._rules = rules
        self._events = events
        self._processes = processes
        self._threads = ThreadRunner(threads)

    @property
    def has_busy_threads(self) -> bool:
        """Whether a thread still runs a job; it would keep the process from ending."""
        return self._threads.is_busy

    async def execute(self, fetched: FetchedJob) -> Outcome:
        try:
            job = load(fetched, self._registry)
        except EnvelopeError as error:
            self._started(fetched, job_of(fetched.payload))
            return Failed(error, None)
        self._started(fetched, job_name(type(job)))
        limits = self._rules.of(job)
        if fetched.attempts > limits.max_tries:
            return Failed(_used_up(fetched, limits), job)
        return await self._try(fetched, job, limits)

    async def close(self) -> None:
        self._threads.close()
        await self._processes.close()

    def _started(self, fetched: FetchedJob, name: str) -> None:
        self._events.emit(JobStarted(fetched.job_id, name, fetched.queue, fetched.attempts))

    async def _try(self, fetched: FetchedJob, job: Job, limits: Limits) -> Outcome:
        try:
            await self._run(fetched, job, limits)
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                return Abandoned() if self._threads.runs(job.job_id) else Released()
            return decide(job, as_job_error(job, error), fetched.attempts, limits)
        except JobProcessRaisedError as error:
            # Where the job raised it stands in the child's traceback; where we did is of no interest.
            return decide(job, error.with_traceback(None), fetched.attempts, limits)
        except Exception as error:
            return decide(job, error, fetched.attempts, limits)
        except SystemExit as error:
            return decide(job, as_job_error(job, error), fetched.attempts, limits)
        return Completed()

    async def _run(self, fetched: FetchedJob, job: Job, limits: Limits) -> None:
        if job.execution == "process":
            await self._processes.run(fetched, job, limits)
        elif iscoroutinefunction(job.handle):
            await _run_on_loop(job, limits)
        else:
            await self._threads.run(job, limits)


def load(fetched: FetchedJob, registry: JobRegistry) -> Job:
    """The job of a payload, as its `handle` is to find it. Raises EnvelopeError."""
    job = load_job(read_envelope(fetched.payload), registry)
    job.job_id, job.queue, job.attempts = fetched.job_id, fetched.queue, fetched.attempts
    return job


async def _run_on_loop(job: Job, limits: Limits) -> None:
    scope = asyncio.timeout(limits.timeout or None)
    try:
        async with scope:
            result = job.handle()
            if result is not None:
                await run_coroutine(result, limits.soft_timeout)
    except TimeoutError:
        if not scope.expired():
            raise  # the job's own
    if scope.expired():  # also where the job swallowed the cancellation
        raise timed_out(job, limits)


def _is_being_cancelled() -> bool:
    """Whether somebody cancelled this task, and not the job itself raised CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def as_job_error(job: Job, error: BaseException) -> JobError:
    """For what a job raised that is no Exception."""
    wrapped = JobError(f"{job_name(type(job))} raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _used_up(fetched: FetchedJob, limits: Limits) -> MaxTriesExceededError:
    return MaxTriesExceededError(
        f"The job was started {fetched.attempts - 1} times of {limits.max_tries} without reporting back: its worker "
        f"died or lost its lease each time. Look at the workers' logs for what kills them before you retry it."
    )
