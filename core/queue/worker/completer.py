"""Turns outcomes into driver calls, in batches, and never gives up on one while the worker lives.

It writes as soon as an outcome is there; whatever ends during a write goes into the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

from core.job import Job
from core.observability.events import (
    Event,
    Events,
    HookFailed,
    JobCompleted,
    JobFailed,
    JobReleased,
    JobRetried,
    LeaseLost,
)
from core.queue import state
from core.queue.driver import Driver
from core.queue.envelope import job_of
from core.queue.state import FailedJob, Failure, FetchedJob, Lease
from core.queue.traceback_text import traceback_text
from core.queue.worker.outcome import Completed, Failed, Outcome, Released, Retry
from core.queue.worker.until_reached import until_reached

_log = logging.getLogger("routemq.queue.worker")

Kind_co = TypeVar("Kind_co", bound=Outcome, covariant=True)


@dataclass(frozen=True, slots=True)
class Ended(Generic[Kind_co]):
    """A try that ended, with what it took."""

    fetched: FetchedJob
    outcome: Kind_co
    seconds: float


CallHook: TypeAlias = Callable[[Job, Exception], Awaitable[None]]
Verb: TypeAlias = Callable[[Sequence[Ended[Kind_co]]], Awaitable[AbstractSet[str]]]


class Completer:
    """`record` an outcome, and the driver will hear of it.

    `on_recorded` is called once it has, and the job's `failed()` has returned. Until then the worker holds
    the job's slot: that bounds what waits here, and how many hooks run.
    """

    def __init__(
        self, driver: Driver, events: Events, *, call_hook: CallHook, on_recorded: Callable[[Ended[Outcome]], None]
    ) -> None:
        self._driver = driver
        self._events = events
        self._call_hook = call_hook
        self._on_recorded = on_recorded
        self._waiting: list[Ended[Outcome]] = []
        self._arrived = asyncio.Event()
        self._hooks: set[asyncio.Task[None]] = set()

    def record(self, ended: Ended[Outcome]) -> None:
        self._waiting.append(ended)
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            await self._write(batch)

    def cut_hooks_short(self) -> None:
        """The worker has no more time: end the hooks that still run."""
        for hook in self._hooks:
            hook.cancel()

    async def _write(self, batch: Sequence[Ended[Outcome]]) -> None:
        """One driver call per kind of outcome."""
        driver = self._driver
        await self._tell(_of(Completed, batch), lambda mine: driver.complete([_lease(each) for each in mine]))
        await self._tell(_of(Retry, batch), lambda mine: driver.retry([_retry(each) for each in mine]))
        await self._tell(_of(Failed, batch), self._fail)
        await self._tell(_of(Released, batch), lambda mine: driver.release([_lease(each) for each in mine]))

    async def _fail(self, batch: Sequence[Ended[Failed]]) -> AbstractSet[str]:
        """A job that is no longer ours, and yet has this very row, was failed by a call whose answer got lost."""
        failures = [(_lease(each), _failure(each)) for each in batch]
        stale = await self._driver.fail(failures)
        rows = {job_id: await self._driver.failures.find(job_id) for job_id in stale}
        known = {failure.job_id for _, failure in failures if _is_row_of(failure, rows.get(failure.job_id))}
        return stale - known

    async def _tell(self, batch: Sequence[Ended[Kind_co]], verb: Verb[Kind_co]) -> None:
        """Tell the driver until it answers: once work is done, to forget it would be to do it twice."""
        if not batch:
            return
        try:
            stale = await until_reached(lambda: verb(batch), self._events)
        except Exception:
            await self._tell_singly(batch, verb)
        else:
            for ended in batch:
                self._report(ended, is_stale=ended.fetched.job_id in stale)

    async def _tell_singly(self, batch: Sequence[Ended[Kind_co]], verb: Verb[Kind_co]) -> None:
        """The store refused a batch: only the culprit is to suffer. Its job runs again, as often as it may."""
        if len(batch) > 1:
            for each in batch:
                await self._tell([each], verb)
            return
        _log.exception(
            "the store refused the outcome of job %s; it runs again after its lease", _lease(batch[0]).job_id
        )
        self._on_recorded(batch[0])

    def _report(self, ended: Ended[Outcome], *, is_stale: bool) -> None:
        self._events.emit(LeaseLost(*_about(ended)) if is_stale else _event_of(ended))
        outcome = ended.outcome
        if isinstance(outcome, Failed) and _has_hook(outcome.job) and not is_stale:
            hook = asyncio.create_task(self._run_hook(ended, outcome), name="failed-hook")
            self._hooks.add(hook)
            hook.add_done_callback(self._hooks.discard)
        else:
            self._on_recorded(ended)

    async def _run_hook(self, ended: Ended[Outcome], outcome: Failed) -> None:
        try:
            await self._call_hook(cast("Job", outcome.job), outcome.exception)
        except BaseException as error:  # whatever users' code does: the row stands, and the worker goes on
            self._events.emit(HookFailed(*_about(ended), error))
        finally:
            self._on_recorded(ended)


def _has_hook(job: Job | None) -> bool:
    return job is not None and type(job).failed is not Job.failed


def _is_row_of(failure: Failure, row: FailedJob | None) -> bool:
    return row is not None and (row.attempts, row.exception) == (failure.attempts, failure.exception)


def _of(kind: type[Kind_co], batch: Sequence[Ended[Outcome]]) -> list[Ended[Kind_co]]:
    return [cast("Ended[Kind_co]", each) for each in batch if isinstance(each.outcome, kind)]


def _lease(ended: Ended[Outcome]) -> Lease:
    return ended.fetched.lease


def _retry(ended: Ended[Retry]) -> state.Retry:
    return state.Retry(ended.fetched.lease, ended.outcome.delay)


def _failure(ended: Ended[Failed]) -> Failure:
    fetched = ended.fetched
    return Failure(
        job_id=fetched.job_id,
        queue=fetched.queue,
        job=job_of(fetched.payload),
        payload=fetched.payload,
        exception=traceback_text(ended.outcome.exception),
        attempts=fetched.attempts,
    )


def _about(ended: Ended[Outcome]) -> tuple[str, str, str, int]:
    fetched = ended.fetched
    return fetched.job_id, job_of(fetched.payload), fetched.queue, fetched.attempts


def _event_of(ended: Ended[Outcome]) -> Event:
    match ended.outcome:
        case Completed():
            return JobCompleted(*_about(ended), ended.seconds)
        case Retry(exception, delay):
            return JobRetried(*_about(ended), ended.seconds, exception, delay)
        case Failed(exception):
            return JobFailed(*_about(ended), ended.seconds, exception)
        case _:
            return JobReleased(*_about(ended))
