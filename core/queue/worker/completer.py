"""Turns outcomes into driver calls, in batches, and never gives up on one while the worker lives.

It writes as soon as an outcome is there; whatever ends during a write goes into the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, TypeAlias, TypeVar, cast

from msgspec import Struct

from core.errors import UnavailableError
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
from core.queue.worker.outage import Outage
from core.queue.worker.outcome import Completed, Failed, Outcome, Released, Retry
from core.queue.worker.until_reached import until_reached

_log = logging.getLogger("routemq.queue.worker")

Kind_co = TypeVar("Kind_co", bound=Outcome, covariant=True)


class Ended(Struct, Generic[Kind_co], frozen=True):
    """A try that ended, with what it took."""

    fetched: FetchedJob
    outcome: Kind_co
    seconds: float


CallHook: TypeAlias = Callable[[Job, Exception], Awaitable[None]]
Verb: TypeAlias = Callable[[Sequence[Ended[Kind_co]]], Awaitable[AbstractSet[str]]]


class Completer:
    """`record` an outcome, and the driver will hear of it.

    `on_recorded` is called once it has, and the job's `failed()` has returned. Until then the worker counts the job
    among those it holds: that bounds what waits here, and how many hooks run.
    """

    def __init__(
        self,
        driver: Driver,
        events: Events,
        outage: Outage,
        *,
        call_hook: CallHook,
        on_recorded: Callable[[Ended[Outcome]], None],
    ) -> None:
        self._driver = driver
        self._events = events
        self._outage = outage
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
        driver, kinds = self._driver, _by_kind(batch)
        await self._tell(kinds[Completed], lambda mine: driver.complete([_lease(each) for each in mine]))
        await self._tell(kinds[Retry], lambda mine: driver.retry([_retry(each) for each in mine]))
        await self._tell(kinds[Failed], lambda mine: driver.fail([(_lease(each), _failure(each)) for each in mine]))
        await self._tell(kinds[Released], lambda mine: driver.release([_lease(each) for each in mine]))

    async def _tell(self, batch: Sequence[Ended[Kind_co]], verb: Verb[Kind_co]) -> None:
        """Tell the driver until it answers: once work is done, to forget it would be to do it twice."""
        if not batch:
            return
        call = _Counted(lambda: verb(batch))
        try:
            stale = await until_reached(call, self._outage)
        except Exception:
            await self._tell_singly(batch, verb)
        else:
            for ended in batch:
                is_stale = ended.fetched.job_id in stale and not await self._was_told(ended, call.count)
                self._report(ended, is_stale=is_stale)

    async def _was_told(self, ended: Ended[Outcome], calls: int) -> bool:
        """Whether a job that is no longer ours was ended by an earlier call of this, whose answer got lost.

        A failure is known by its row, and the row by the number of the try. Of the others nothing is left to look
        at: they are taken at their word, as a mistake is one line in the log.
        """
        if not isinstance(ended.outcome, Failed):
            return calls > 1
        try:
            row = await self._driver.failures.find(ended.fetched.job_id)
        except UnavailableError:
            return False
        return row is not None and row.attempts == ended.fetched.attempts

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


class _Counted:
    """A call that counts how often it was made."""

    def __init__(self, call: Callable[[], Awaitable[AbstractSet[str]]]) -> None:
        self._call = call
        self.count = 0

    def __call__(self) -> Awaitable[AbstractSet[str]]:
        self.count += 1
        return self._call()


def _by_kind(batch: Sequence[Ended[Outcome]]) -> dict[type[Outcome], list[Ended[Any]]]:
    kinds: dict[type[Outcome], list[Ended[Any]]] = defaultdict(list)
    for ended in batch:
        kinds[type(ended.outcome)].append(ended)
    return kinds


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
