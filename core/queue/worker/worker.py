"""A worker: fetch into free slots, execute, record the outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.state import FetchedJob, Lease
from core.queue.worker.blocked_loop import watch_loop
from core.queue.worker.completer import Completer, Ended
from core.queue.worker.executor import Executor, as_exception
from core.queue.worker.heartbeat import Heartbeat
from core.queue.worker.memory_guard import watch_memory
from core.queue.worker.options import WorkerOptions
from core.queue.worker.outage import Outage
from core.queue.worker.outcome import Abandoned, Completed, Failed, Outcome, Released, Retry
from core.queue.worker.producer import Producer
from core.queue.worker.rescuer import Rescuer
from core.tasks import cancel_for_stop, end_tasks, first_of, start_task

_log = logging.getLogger("routemq.queue.worker")

LAST_WORDS = 5.0
"""Seconds, beyond the grace, to get cancelled jobs to end and outcomes to the store."""


Service: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Worker:
    """Runs the jobs of its queues until it is stopped, or until one of its options says so.

    `stop()` stops fetching and lets running jobs end within the grace; the rest is handed back. A second
    `stop()` hands them back at once.
    """

    def __init__(
        self,
        driver: Driver,
        executor: Executor,
        options: WorkerOptions,
        events: Events,
        *,
        open_driver: Callable[[], Driver] | None = None,
    ) -> None:
        """`open_driver` makes another driver to the same store, for the thread that renews leases."""
        self._options = options
        self._executor = executor
        self._running: dict[Lease, asyncio.Task[Outcome]] = {}
        self._producing: asyncio.Task[None] | None = None
        self._asked_to_stop = False
        self._has_outgrown = False
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._all_recorded = asyncio.Event()
        outage = Outage(events)
        self._completer = Completer(driver, events, outage, call_hook=executor.call_hook, on_recorded=self._recorded)
        self._heartbeat = Heartbeat(driver, options.lease, outage, on_lost=self._cancel, open_driver=open_driver)
        self._rescuer = Rescuer(driver, options.queues.names, options.lease, events, outage)
        self._producer = Producer(driver, options, outage, start=self._start)

    @property
    def is_healthy(self) -> bool:
        """Whether the store has answered within the last lease."""
        return time.monotonic() - self._heartbeat.last_success < self._options.lease

    @property
    def is_used_up(self) -> bool:
        """Whether it has ended by --memory or --max-jobs, so that another is to go on in its place."""
        counted_out = self._options.max_jobs is not None and not self._options.stop_when_empty
        return self._has_outgrown or (counted_out and not self._stopping.is_set())

    def stop(self) -> None:
        if self._asked_to_stop:
            self._at_once.set()
        self._asked_to_stop = True
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        self._stopping.set()
        if self._producing is not None:
            self._producing.cancel()

    async def run(self) -> None:
        """Work until stopped. An exception out of here is a defect: what ran is rescued after its lease."""
        async with asyncio.TaskGroup() as group:
            services = [group.create_task(service(), name=name) for name, service in self._services().items()]
            self._producing = group.create_task(self._producer.run(), name="producer")
            await first_of(self._stopping.wait(), asyncio.wait({self._producing}))
            await self._drain(self._producing)
            await end_tasks(*services)
        await self._executor.close()

    def _services(self) -> dict[str, Service]:
        services: dict[str, Service] = {
            "completer": self._completer.run,
            "heartbeat": self._heartbeat.run,
            "rescuer": self._rescuer.run,
        }
        if self._options.max_time is not None:
            services["max-time"] = partial(self._stop_after, self._options.max_time)
        if self._options.memory is not None:
            services["memory-guard"] = partial(watch_memory, self._options.memory, self._outgrown)
        if self._options.blocked_loop_warning:
            services["blocked-loop"] = partial(watch_loop, self._options.blocked_loop_warning)
        return services

    def _outgrown(self) -> None:
        self._has_outgrown = True
        self._begin_to_stop()

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        _log.info("stopping after --max-time %g s", seconds)
        self._begin_to_stop()

    # ── one job ──────────────────────────────────────────────────────────────────────────────────────

    def _start(self, fetched: FetchedJob, start_by: float) -> None:
        lease, started = fetched.lease, time.monotonic()
        self._heartbeat.hold(lease)
        task = start_task(self._executor.execute(fetched, start_by), f"job-{fetched.job_id}")
        self._running[lease] = task
        self._all_recorded.clear()
        if task.done():
            self._ended(fetched, started, task)
        else:
            task.add_done_callback(partial(self._ended, fetched, started))

    def _ended(self, fetched: FetchedJob, started: float, task: asyncio.Task[Outcome]) -> None:
        ended = Ended(fetched, _outcome_of(task), time.monotonic() - started)
        if isinstance(ended.outcome, Abandoned):
            self._recorded(ended)
        else:
            if isinstance(ended.outcome, Completed):  # of the others, a hook may have to run, in the job's slot
                self._producer.slot_freed()
            self._completer.record(ended)

    def _recorded(self, ended: Ended[Outcome]) -> None:
        lease = ended.fetched.lease
        self._heartbeat.drop(lease)
        del self._running[lease]
        if isinstance(ended.outcome, Retry):
            self._producer.due_in(ended.outcome.delay)
        if not isinstance(ended.outcome, Completed):
            self._producer.slot_freed()
        self._producer.recorded()
        if not self._running:
            self._all_recorded.set()

    def _cancel(self, lease: Lease) -> None:
        """Somebody else has the job by now: what it still does here is in vain."""
        task = self._running.get(lease)
        if task is None or task.done():  # ended while the heartbeat was under way: its outcome is being recorded
            return
        _log.warning("lost the lease of job %s; it is cancelled here, as another worker may run it", lease.job_id)
        cancel_for_stop(task)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────

    async def _drain(self, producing: asyncio.Task[None]) -> None:
        """Let the last fetch and the running jobs end; once a stop was asked for, only within the grace."""
        await first_of(self._all_ended(producing), self._at_once.wait(), self._grace_over())
        self._producer.abandon()
        await end_tasks(producing)
        for task in self._running.values():
            cancel_for_stop(task)
        self._completer.cut_hooks_short()
        try:
            async with asyncio.timeout(LAST_WORDS):
                if self._running:
                    await self._all_recorded.wait()
        except TimeoutError:
            _log.error("%d jobs could not be handed back; they run again after their leases", len(self._running))

    async def _all_ended(self, producing: asyncio.Task[None]) -> None:
        await end_tasks(producing)
        if self._running:
            await self._all_recorded.wait()

    async def _grace_over(self) -> None:
        await self._stopping.wait()
        if self._running:
            _log.info("letting %d jobs end, for %g s at most", len(self._running), self._options.grace)
        await asyncio.sleep(self._options.grace)


def _outcome_of(task: asyncio.Task[Outcome]) -> Outcome:
    if task.cancelled():  # before its first step, so that it never came to return an outcome
        return Released()
    error = task.exception()
    return task.result() if error is None else Failed(as_exception(error), None)
