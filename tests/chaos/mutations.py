"""Promises broken on purpose, to see that the runs notice: a process whose CHAOS_MUTATION names one breaks it.

early_ack         a message is acknowledged when it arrives, before its jobs are dispatched.
no_fencing        whoever reports on a job is taken for the holder of its current lease.
two_commands      a job that is given up is first taken off its queue, then entered into failed_jobs.
late_count        a try is counted when it has failed, and not when it starts.
careless_push     a job that could not be stored counts as dispatched.
no_order          ordering keys count for nothing.
no_uniqueness     unique keys count for nothing.
impatient_rescue  a lease that has run out while the store was away is over at once, when it is back.
no_rescue         nobody looks for jobs whose owner is dead.
blind_start       a worker begins what it has fetched, however long ago that was.
own_clock         leases end by the clock of the worker.
early_release     a worker that stops hands back jobs that still run.
push_anew         a job whose push went unanswered is pushed again as another. (In a database.)
no_hook           a job is given up, and its failed() is not called.
one_version       envelopes are written and read in the newest version only.
leak              a worker keeps something of each job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace

from core.errors import EnvelopeError
from core.mqtt.intake import Intake
from core.queue import queue_manager
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.redis import RedisDriver
from core.queue.envelope import VERSION, Envelope, read_envelope, write_envelope
from core.queue.job_id import new_job_id
from core.queue.queue_manager import QueueManager
from core.queue.state import FetchedJob
from core.queue.worker import completer, executor
from core.queue.worker.executor import Executor
from core.queue.worker.worker import Worker
from tests.chaos.broken_drivers import BROKEN, InTwoCommands, broken

VARIABLE = "CHAOS_MUTATION"
_AFTER_ACK = 0.5
"""Seconds from an acknowledgement that is too early to the handling, at least."""
_PACE = 0.005
"""Seconds from one handling to the next: a router that handles messages has others that it has acknowledged only."""
PAUSE = 2.0
"""Seconds between the two commands, where it is chance that has to hit them: a pause of a few microseconds would need
more kills than a test has time for."""
_LEAK = 500_000
"""Bytes of each job."""


def apply(name: str) -> None:
    """Break a promise in this process, for good."""
    if name not in {*BROKEN, *_CHANGES}:
        raise ValueError(f"{VARIABLE}={name!r} is no mutation; there are {', '.join([*BROKEN, *_CHANGES])}")
    if name in BROKEN:
        InTwoCommands.pause = PAUSE
        _break_drivers(name)
    if name in _CHANGES:
        _CHANGES[name]()


def _break_drivers(name: str) -> None:
    opened = QueueManager.driver

    def driver(self: QueueManager, connection: str | None = None) -> Any:
        return broken(name, opened(self, connection))

    QueueManager.driver = driver  # type: ignore[method-assign]


def _acknowledge_at_arrival() -> None:
    start = Intake._start_handler
    last = -inf

    def acknowledge_and_start(self: Intake, taken: Any) -> None:
        nonlocal last
        if taken.arrival:
            taken.acknowledger.settle(taken.arrival, handled=True)
        loop = asyncio.get_running_loop()
        last = max(loop.time() + _AFTER_ACK, last + _PACE)
        loop.call_at(last, start, self, taken._replace(arrival=None))

    Intake._start_handler = acknowledge_and_start  # type: ignore[method-assign]


def _begin_whatever_was_fetched() -> None:
    execute = Executor.execute

    def begin(self: Executor, fetched: FetchedJob, start_by: float) -> Any:
        return execute(self, fetched, float("inf"))

    Executor.execute = begin  # type: ignore[method-assign]


def _lease_by_own_clock() -> None:
    def shifted(verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Driver, *arguments: Any) -> Any:
            *others, lease = arguments
            return verb(self, *others, lease + _ahead())

        return call

    for driver in (RedisDriver, DatabaseDriver):  # the heartbeat opens one of its own, past the QueueManager
        driver.fetch = shifted(driver.fetch)  # type: ignore[method-assign]
        driver.renew = shifted(driver.renew)  # type: ignore[method-assign]


def _ahead() -> float:
    """By how many seconds the clock of this process is."""
    return time.time() - time.clock_gettime(time.CLOCK_REALTIME)  # which tests/chaos/clock leaves as it is


def _hand_back_what_runs() -> None:
    drain = Worker._drain

    async def release_and_drain(self: Worker, producing: asyncio.Task[None]) -> None:
        await self._completer._driver.release(list(self._running))
        await drain(self, producing)

    Worker._drain = release_and_drain  # type: ignore[method-assign]


def _push_each_time_anew() -> None:
    push = DatabaseDriver._push_chunks

    async def push_anew(self: DatabaseDriver, connection: Any, chunks: Any, *arguments: Any, **options: Any) -> None:
        anew = [[replace(job, job_id=new_job_id()) for job in chunk] for chunk in chunks]
        await push(self, connection, anew, *arguments, **options)

    DatabaseDriver._push_chunks = push_anew  # type: ignore[method-assign]


def _call_no_hook() -> None:
    completer._has_hook = lambda job: False


def _know_one_version() -> None:
    def write(*arguments: Any) -> bytes:
        return msgspec.json.encode({**msgspec.json.decode(write_envelope(*arguments)), "v": VERSION})

    def read(payload: bytes) -> Envelope:
        envelope = read_envelope(payload)
        if envelope.v < VERSION:
            raise EnvelopeError(f"version {envelope.v}")
        return envelope

    queue_manager.write_envelope = write  # type: ignore[assignment, attr-defined]
    executor.read_envelope = read  # type: ignore[attr-defined]


def _leak() -> None:
    kept: list[bytes] = []
    ended = Worker._ended

    def keep(self: Worker, *arguments: Any) -> None:
        kept.append(bytes(bytearray(b"x") * _LEAK))
        ended(self, *arguments)

    Worker._ended = keep  # type: ignore[assignment, method-assign]


_CHANGES: dict[str, Callable[[], None]] = {
    "early_ack": _acknowledge_at_arrival,
    "blind_start": _begin_whatever_was_fetched,
    "own_clock": _lease_by_own_clock,
    "early_release": _hand_back_what_runs,
    "push_anew": _push_each_time_anew,
    "no_hook": _call_no_hook,
    "one_version": _know_one_version,
    "leak": _leak,
}
