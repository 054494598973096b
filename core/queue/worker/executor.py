"""Runs one try of a job and says what came of it. Touches no storage."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache, partial
from typing import Any, TypeAlias

from core.clock import since_boot
from core.errors import EnvelopeError, JobError, JobProcessRaisedError, MaxTriesExceededError
from core.job import Job, job_name
from core.observability.events import Events, JobStarted
from core.queue.envelope import job_of, load_job, read_envelope
from core.queue.registry import JobRegistry
from core.queue.state import FetchedJob, Lease
from core.queue.worker.first_step import begin
from core.queue.worker.limits import LimitRules, Limits, timed_out
from core.queue.worker.outcome import Abandoned, Completed, Failed, Outcome, Released
from core.queue.worker.process_pool import ProcessPool
from core.queue.worker.retry import decide, decide_unread
from core.queue.worker.soft_timeout import run_coroutine
from core.queue.worker.thread_runner import OverranError, ThreadRunner
from core.tasks import is_cancelled_for_stop

UsersCall: TypeAlias = Callable[[], Awaitable[None] | None]

HOOK_TIMEOUT = 60.0
"""Seconds that a `failed()` may take."""


class Executor:
    """Load, check the tries, run within the timeout, and turn whatever happened into an outcome.

    `cancel_for_stop` of the task that runs `execute` stops a job early: a coroutine is cancelled, a child process
    killed, and its job Released; a thread cannot be stopped, so its job is Abandoned.
    """

    def __init__(
        self, registry: JobRegistry, rules: LimitRules, *, processes: ProcessPool, threads: int = 16, events: Events
    ) -> None:
        self._registry = registry
        self._rules = rules
        self._events = events
        self._processes = processes
        self._threads = ThreadRunner(threads)

    async def execute(self, fetched: FetchedJob, start_by: float) -> Outcome:
        """After the moment `start_by` (`since_boot`) it is too late to begin: the lease may be lost by then."""
        if since_boot() > start_by:
            return Released()
        try:
            job = load(fetched, self._registry)
        except EnvelopeError as error:
            self._started(fetched, job_of(fetched.payload))
            return decide_unread(error, fetched.attempts, self._rules.of(getattr(error, "job", None)))
        self._started(fetched, job_name(type(job)))
        limits = self._rules.of(job)
        if fetched.attempts > limits.max_tries:
            return Failed(_used_up(fetched, limits), job)
        return await self._try(fetched, job, limits)

    async def call_hook(self, job: Job, exception: Exception) -> None:
        """Call a job's `failed()`, for HOOK_TIMEOUT at most. Raises what it raises."""
        key = Lease(job.job_id, job.queue, "failed()")
        await self._call(partial(job.failed, exception), job, key, HOOK_TIMEOUT, part="failed() of ")

    async def close(self) -> None:
        self._threads.close()
        await self._processes.close()

    def _started(self, fetched: FetchedJob, name: str) -> None:
        self._events.emit(JobStarted(fetched.job_id, name, fetched.queue, fetched.attempts))

    async def _try(self, fetched: FetchedJob, job: Job, limits: Limits) -> Outcome:
        try:
            await self._run(fetched, job, limits)
        except BaseException as error:  # a job may raise whatever it likes, and must not take its worker along
            if is_cancelled_for_stop():
                return Abandoned() if fetched.lease in self._threads.running else Released()
            return decide(job, as_exception(error), job.attempts, limits)
        return Completed()

    async def _run(self, fetched: FetchedJob, job: Job, limits: Limits) -> None:
        if job.execution == "process":
            await self._processes.run(fetched, job, limits)
        else:
            await self._call(job.handle, job, fetched.lease, limits.timeout, limits.soft_timeout)

    async def _call(
        self, call: UsersCall, job: Job, key: Lease, timeout: float, soft_timeout: float = 0.0, *, part: str = ""
    ) -> None:
        """Await a coroutine function; run any other in a thread, and await what that may return."""
        if is_coroutine_function(call):
            result = call()
        else:
            name = f"{part}job {job_name(type(job))} {job.job_id}"
            try:
                result = await self._threads.run(call, key, timeout, soft_timeout, name=name)
            except OverranError:
                raise timed_out(job, timeout) from None
        awaitable = awaitable_of(result, job)
        if awaitable is not None:
            await _within(timeout, run_coroutine(awaitable, soft_timeout), job)


def load(fetched: FetchedJob, registry: JobRegistry) -> Job:
    """The job of a payload, as its `handle` is to find it. Raises EnvelopeError."""
    job = load_job(read_envelope(fetched.payload), registry)
    job.job_id, job.queue, job.attempts = fetched.job_id, fetched.queue, fetched.attempts
    return job


def awaitable_of(result: Any, job: Job) -> Awaitable[Any] | None:
    """What a `handle` or `failed` has returned, where that is something to await."""
    if inspect.iscoroutine(result):
        return result
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(f"{job_name(type(job))}: a handle() or failed() with `yield` in it does not run; take it out.")
    return result if inspect.isawaitable(result) else None


def as_exception(error: BaseException) -> Exception:
    """An error that can be recorded: as it is, or wrapped where it would end a program (SystemExit, …)."""
    if isinstance(error, JobProcessRaisedError):
        return error.with_traceback(None)  # its note says where, in the child; how it came to us is of no interest
    if isinstance(error, Exception):
        return error
    wrapped = JobError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


async def _within(timeout: float, running: Coroutine[Any, Any, None], job: Job) -> None:
    until = asyncio.get_running_loop().time() + timeout if timeout else None
    rest = begin(running)
    if rest is None:
        return
    scope = asyncio.timeout_at(until)
    try:
        async with scope:
            await rest
    except TimeoutError:
        if not scope.expired():
            raise  # the job's own
    if scope.expired():  # also where the job swallowed the cancellation
        raise timed_out(job, timeout)


def is_coroutine_function(call: UsersCall) -> bool:
    method = call.func if isinstance(call, partial) else call
    return _is_coroutine_function(getattr(method, "__func__", method))


_is_coroutine_function = lru_cache(inspect.iscoroutinefunction)  # asked for each job, of few functions


def _used_up(fetched: FetchedJob, limits: Limits) -> MaxTriesExceededError:
    return MaxTriesExceededError(
        f"The job was started {_times(fetched.attempts - 1)}, and {limits.max_tries} are allowed. Its last try either "
        f"never reported back, as its worker died or lost its lease, or failed while more tries were allowed. Look at "
        f"the workers' logs for this job id before you retry it."
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
