"""Turns outcomes into driver calls, in batches, and never gives up on one while the worker lives.

It writes as soon as an outcome is there; whatever ends during a write goes into the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Generic, TypeVar, cast

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
from core.queue.state import Failure, FetchedJob, Lease
from core.queue.traceback_text import traceback_text
from core.queue.worker.outcome import Completed, Failed, Outcome, Released, Retry
from core.queue.worker.until_reached import until_reached

_log = logging.getLogger("routemq.queue.worker")

HOOK_TIMEOUT = 60.0
"""Seconds that a `failed()` may take: it holds up the end of the worker, not other jobs."""

Kind_co = TypeVar("Kind_co", bound=Outcome, covariant=True)


@dataclass(frozen=True, slots=True)
class Ended(Generic[Kind_co]):
    """A try that ended, with what it took."""

    fetched: FetchedJob
    outcome: Kind_co
    seconds: float


class Completer:
    """`record` an outcome, and the driver will hear of it; `on_recorded` is called once it has."""

    def __init__(self, driver: Driver, events: Events, *, on_recorded: Callable[[FetchedJob], None]) -> None:
        self._driver = driver
        self._events = events
        self._on_recorded = on_recorded
        self._waiting: list[Ended[Outcome]] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hooks: set[asyncio.Task[None]] = set()

    def record(self, ended: Ended[Outcome]) -> None:
        """Take an outcome. Bounded by the worker's slots, which it holds until the outcome is recorded."""
        self._waiting.append(ended)
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            await self._write(batch)
            if not self._waiting:
                self._idle.set()

    async def drained(self) -> None:
        """Wait until every outcome is recorded and every `failed()` has returned."""
        await self._idle.wait()
        await asyncio.gather(*self._hooks)

    async def _write(self, batch: Sequence[Ended[Outcome]]) -> None:
        """One driver call per kind of outcome."""
        driver = self._driver
        await self._tell(_of(Completed, batch), lambda mine: driver.complete([_lease(each) for each in mine]))
        await self._tell(_of(Retry, batch), lambda mine: driver.retry([_retry(each) for each in mine]))
        await self._tell(
            _of(Failed, batch), lambda mine: driver.fail([(_lease(each), _failure(each)) for each in mine])
        )
        await self._tell(_of(Released, batch), lambda mine: driver.release([_lease(each) for each in mine]))
        for ended in batch:
            self._on_recorded(ended.fetched)

    async def _tell(
        self, batch: Sequence[Ended[Kind_co]], verb: Callable[[Sequence[Ended[Kind_co]]], Awaitable[AbstractSet[str]]]
    ) -> None:
        """Tell the driver until it answers: once work is done, to forget it would be to do it twice."""
        if not batch:
            return
        try:
            stale = await until_reached(lambda: verb(batch), self._events)
        except Exception:
            await self._tell_singly(batch, verb)
        else:
            self._report(batch, stale)

    async def _tell_singly(
        self, batch: Sequence[Ended[Kind_co]], verb: Callable[[Sequence[Ended[Kind_co]]], Awaitable[AbstractSet[str]]]
    ) -> None:
        """The store refused a batch: only the culprit is to suffer. Its job runs again, as often as it may."""
        if len(batch) > 1:
            for each in batch:
                await self._tell([each], verb)
            return
        _log.exception(
            "the store refused the outcome of job %s; it runs again after its lease", batch[0].fetched.job_id
        )

    def _report(self, batch: Sequence[Ended[Outcome]], stale: AbstractSet[str]) -> None:
        for ended in batch:
            if ended.fetched.job_id in stale:
                self._events.emit(LeaseLost(*_about(ended)))
                continue
            self._events.emit(_event_of(ended))
            if isinstance(ended.outcome, Failed):
                self._start_hook(ended, ended.outcome)

    def _start_hook(self, ended: Ended[Outcome], outcome: Failed) -> None:
        if outcome.job is None or type(outcome.job).failed is Job.failed:
            return
        hook = asyncio.create_task(self._call_hook(ended, outcome.job, outcome.exception), name="failed-hook")
        self._hooks.add(hook)
        hook.add_done_callback(self._hooks.discard)

    async def _call_hook(self, ended: Ended[Outcome], job: Job, exception: Exception) -> None:
        try:
            async with asyncio.timeout(HOOK_TIMEOUT):
                if iscoroutinefunction(job.failed):
                    await job.failed(exception)
                else:
                    await asyncio.to_thread(job.failed, exception)
        except Exception as error:
            self._events.emit(HookFailed(*_about(ended), error))


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
