"""The queue manager: where jobs go in, and what is asked about queues.

`dispatch` and `queue` are doors to the manager of the Application that is open in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from core.clock import CENTURY, Clock, SystemClock, in_seconds
from core.errors import DispatchError, NotRunningError, PayloadTooLargeError, SettingError
from core.job import Job, job_name
from core.observability.events import Events, JobDeduplicated, JobsDispatched
from core.queue.bulk import BulkDispatch
from core.queue.dispatches import Dispatches, current_dispatches
from core.queue.driver import Driver
from core.queue.envelope import write_envelope
from core.queue.group_commit import GroupCommit
from core.queue.job_id import new_job_id
from core.queue.ordering_key import own_ordering_key
from core.queue.origin import Origin, current_origin
from core.queue.queue_name import QUEUE_NAME_RULE, is_queue_name
from core.queue.state import NewJob, QueueStats
from core.queue.unique_key import unique_key
from core.queue.within_session import require_session_of, transactional

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from core.database.url import DatabaseUrl


@dataclass(frozen=True)
class DispatchOptions:
    connection: str = "database"
    default_queue: str = "default"
    max_payload: int = 1024 * 1024  # bytes
    max_pending: int = 10_000  # dispatches waiting for their write


class QueueManager:
    """Dispatches jobs through drivers, which it opens by connection name when they are first needed."""

    def __init__(
        self,
        drivers: Mapping[str, Callable[[], Driver]],
        options: DispatchOptions | None = None,
        *,
        database: DatabaseUrl | None = None,
        events: Events | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`database` is where the connection `database` has its queues: sessions of that may dispatch within them."""
        self.options = options or DispatchOptions()
        self._factories = drivers
        self._drivers: dict[str, Driver] = {}
        self._commits: dict[tuple[str, bool], GroupCommit] = {}
        self._database = database
        self._events = events or Events()
        self._clock = clock or SystemClock()

    # ── dispatching ──────────────────────────────────────────────────────────────────────────────────

    async def push(
        self,
        job: Job,
        *,
        queue: str | None = None,
        delay: float | timedelta = 0,
        unique_for: float | timedelta | None = None,
        unique_by: str | None = None,
        session: AsyncSession | None = None,
    ) -> str:
        """Store a job; returns its id once it is stored.

        `delay` is in seconds, by the store's clock. With `unique_for` (seconds), a job that was stored on the same
        queue so long ago or less stands for this one, if it is the same: of this class, with the same data, or with
        the same `unique_by`; nothing is stored then, and its id is returned. With `session`, the job is stored in the
        transaction of that AsyncSession: it is there once that is committed, and never if that is rolled back.

        Raises DispatchError for what cannot be stored, PayloadTooLargeError beyond QUEUE_MAX_PAYLOAD, and
        QueueUnavailableError if the store is down; with `session`, what that raises.
        """
        new = self._prepare(job, queue, _seconds(delay), unique_for, unique_by)
        dispatches = current_dispatches()
        standing = None
        if dispatches is not None:
            new = dispatches.known(new)
            standing = dispatches.standing(new.job_id)
        if session is not None:
            job.job_id = await self._push_within(session, new, dispatches, standing)
        elif standing is not None:
            job.job_id = standing
        else:
            job.job_id = await self._commit(new).add(new)
            self._stored(new, dispatches, job.job_id)
        if standing is None and job.job_id != new.job_id:
            self._events.emit(JobDeduplicated(job.job_id, job_name(type(job)), new.queue))
        return job.job_id

    async def later(self, delay: float | timedelta, job: Job, **options: Unpack[LaterOptions]) -> str:
        """Store a job that becomes available after `delay` (seconds, or a timedelta)."""
        return await self.push(job, delay=delay, **options)

    async def bulk(
        self,
        jobs: Sequence[Job],
        *,
        queue: str | None = None,
        delay: float | timedelta = 0,
        unique_for: float | timedelta | None = None,
    ) -> list[str]:
        """Store many jobs, a thousand at a time; returns their ids in order, or with `unique_for` those of the jobs
        that stand for them.

        A thousand are checked before the first of them is stored. Where one cannot be, or the store refuses some or
        is gone, those before them are stored and have their `job_id`; a note on the error says how many.
        """
        seconds = _seconds(delay)
        bulk = BulkDispatch(
            lambda job: _known(self._prepare(job, queue, seconds, unique_for)), self.driver().push, self._events
        )
        return await bulk.run(list(jobs))

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────

    async def size(self, queue: str | None = None) -> int:
        """Jobs that the queue holds: scheduled, available, executing and retryable."""
        return await self.driver().size(queue or self.options.default_queue)

    async def stats(self, queue: str | None = None) -> QueueStats:
        """Counts per state."""
        return await self.driver().stats(queue or self.options.default_queue)

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────

    def driver(self, connection: str | None = None) -> Driver:
        """The driver of a connection (default: QUEUE_CONNECTION), opened at its first use."""
        name = connection or self.options.connection
        if name not in self._drivers:
            if name not in self._factories:
                raise SettingError(f"There is no queue connection {name!r}; there are: {', '.join(self._factories)}.")
            self._drivers[name] = self._factories[name]()
        return self._drivers[name]

    async def open(self) -> None:
        """Make this the manager that `dispatch` and `queue` of this process speak to."""
        self.loop = asyncio.get_running_loop()
        _open.append(self)

    async def close(self) -> None:
        """Write what waits, and give back the drivers, each whatever the closing of another raises."""
        if self in _open:
            _open.remove(self)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._close_drivers)
            for commit in self._commits.values():
                closing.push_async_callback(commit.flush)

    async def _close_drivers(self) -> None:
        self._commits.clear()
        async with AsyncExitStack() as closing:
            while self._drivers:
                _, driver = self._drivers.popitem()
                closing.push_async_callback(driver.close)

    def _commit(self, new: NewJob) -> GroupCommit:
        """Jobs with a unique key share no write with others: it may wait for whoever else claims their keys."""
        name, is_unique = self.options.connection, new.unique_key is not None
        if (name, is_unique) not in self._commits:
            self._commits[name, is_unique] = GroupCommit(self.driver(name).push, self.options.max_pending)
        return self._commits[name, is_unique]

    def _prepare(
        self,
        job: Job,
        queue: str | None,
        delay: float,
        unique_for: float | timedelta | None = None,
        unique_by: str | None = None,
    ) -> NewJob:
        if not isinstance(job, Job):
            raise _no_job(job)
        name = _checked_queue(queue or getattr(job, "queue", None) or self.options.default_queue)
        job_id, origin = new_job_id(), current_origin()
        if type(job).ordering_key is not None:
            ordering_key = own_ordering_key(job)
        else:
            ordering_key = None if origin is None else origin.ordering_key
        payload = write_envelope(job, job_id, name, self._clock.now(), ordering_key)
        if len(payload) > self.options.max_payload:
            raise PayloadTooLargeError(
                f"{job_name(type(job))} has a payload of {len(payload)} bytes; QUEUE_MAX_PAYLOAD allows "
                f"{self.options.max_payload}. Store the data elsewhere and dispatch a reference, or raise the setting."
            )
        if origin is None and unique_for is None and unique_by is None:
            return NewJob(job_id, name, payload, delay, ordering_key)
        return NewJob(job_id, name, payload, delay, ordering_key, *_uniqueness(job, unique_for, unique_by, origin))

    def _stored(self, new: NewJob, dispatches: Dispatches | None, standing: str) -> None:
        """It is, or the job with the id `standing` stands for it."""
        if dispatches is not None:
            dispatches.stored(new.job_id, standing)
        if standing == new.job_id:
            self._events.emit(JobsDispatched(new.queue, 1))

    async def _push_within(
        self, session: AsyncSession, new: NewJob, dispatches: Dispatches | None, standing: str | None
    ) -> str:
        """Store a job in a session's transaction, unless an earlier try's dispatch has told of what is `standing` for
        it; returns the id of what stands."""
        from core.database.after_commit import after_commit

        driver = transactional(self.driver())
        require_session_of(self._database, session)
        connection = await session.connection()
        pushed: str | None = None

        def committed() -> None:
            if pushed is None:
                return
            if pushed == new.job_id:
                driver.announce([new])
            # A transaction around the session's, which somebody else ends, may yet be rolled back.
            self._stored(new, None if connection.in_transaction() else dispatches, pushed)

        def rolled_back() -> None:
            if dispatches is not None:
                dispatches.give_back(new)

        after_commit(session.sync_session, committed, rolled_back)
        if standing is not None:
            return standing
        pushed = (await driver.push_within(connection, [new])).get(new.job_id, new.job_id)
        return pushed


def _no_job(given: Any) -> DispatchError:
    if isinstance(given, type):
        what = f"the class {given.__qualname__}; give it one job of it: {given.__qualname__}(…)"
    else:
        what = f"a {type(given).__qualname__}; give it an instance of a subclass of Job"
    return DispatchError(f"What is dispatched is {what}. It was not stored.")


def _known(new: NewJob) -> NewJob:
    """As the message in whose handling it is dispatched has dispatched it before, if it has."""
    dispatches = current_dispatches()
    return new if dispatches is None else dispatches.known(new)


class _Options(TypedDict, total=False):
    """What any dispatch may ask for: see QueueManager.push."""

    queue: str | None
    unique_for: float | timedelta | None
    unique_by: str | None


class LaterOptions(_Options, total=False):
    """The delay is given already."""

    session: AsyncSession | None


class ThreadOptions(_Options, total=False):
    """A session is of the event loop's."""

    delay: float | timedelta


class PushOptions(LaterOptions, ThreadOptions, total=False):
    """All."""


class Queue:
    """The door to the open manager: `await queue.push(job)`."""

    async def push(self, job: Job, **options: Unpack[PushOptions]) -> str:
        return await current().push(job, **options)

    async def later(self, delay: float | timedelta, job: Job, **options: Unpack[LaterOptions]) -> str:
        return await current().later(delay, job, **options)

    async def bulk(
        self,
        jobs: Sequence[Job],
        *,
        queue: str | None = None,
        delay: float | timedelta = 0,
        unique_for: float | timedelta | None = None,
    ) -> list[str]:
        return await current().bulk(jobs, queue=queue, delay=delay, unique_for=unique_for)

    async def size(self, queue: str | None = None) -> int:
        return await current().size(queue)

    async def stats(self, queue: str | None = None) -> QueueStats:
        return await current().stats(queue)


queue = Queue()
_open: list[QueueManager] = []


async def dispatch(job: Job, **options: Unpack[PushOptions]) -> str:
    """Store a job on its queue; returns its id once it is stored (see QueueManager.push)."""
    return await current().push(job, **options)


def dispatch_from_thread(job: Job, **options: Unpack[ThreadOptions]) -> str:
    """`dispatch` for code that runs in a thread: a `def handle(self)` or a controller that is not async."""
    manager = current()
    _refuse_on(manager.loop)
    if not manager.loop.is_running():  # in a child process, a job that is not async has the loop to itself
        return manager.loop.run_until_complete(manager.push(job, **options))
    return asyncio.run_coroutine_threadsafe(manager.push(job, **options), manager.loop).result()


def _refuse_on(loop: asyncio.AbstractEventLoop) -> None:
    """Waiting for a loop on the loop itself would never end."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if running is loop:
        raise DispatchError("dispatch_from_thread() was called on the event loop; write `await dispatch(job)` there.")


def current() -> QueueManager:
    """The manager of the Application opened last in this process."""
    if not _open:
        raise NotRunningError(
            "No Application is open in this process, so there is no queue to dispatch to. Outside of routers and "
            "workers, wrap your code in `async with Application():` (core.application)."
        )
    return _open[-1]


def _seconds(delay: float | timedelta) -> float:
    seconds = in_seconds(delay)
    if not 0 <= seconds < CENTURY:
        raise DispatchError(f"A delay of {delay!r} is not usable; give seconds from 0 up to a hundred years.")
    return seconds


def _uniqueness(
    job: Job, unique_for: float | timedelta | None, unique_by: str | None, origin: Origin | None
) -> tuple[str | None, float]:
    """The unique key of a job, and the seconds for which it counts: those asked for, or those of its origin."""
    if unique_for is not None:
        return unique_key(job, unique_by), _window(unique_for)
    if unique_by is not None:
        raise DispatchError(f"unique_by={unique_by!r} says nothing without unique_for; give the seconds for which.")
    if origin is None:
        return None, 0.0
    return origin.next_unique_key(job), origin.unique_for


def _window(unique_for: float | timedelta) -> float:
    seconds = in_seconds(unique_for)
    if not 0 < seconds < CENTURY:
        raise DispatchError(f"unique_for={unique_for!r} is not usable; give seconds above 0, up to a hundred years.")
    return seconds


def _checked_queue(name: object) -> str:
    if not is_queue_name(name):
        raise DispatchError(f"{name!r} is no name for a queue: use {QUEUE_NAME_RULE}.")
    return name
