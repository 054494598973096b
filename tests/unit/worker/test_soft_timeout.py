"""`soft_timeout`: SoftTimeout inside the job, once, for it to save what it has."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from core.errors import JobTimeoutError, SoftTimeout
from core.job import Job
from core.observability.events import JobCompleted, JobFailed, JobReleased, JobStarted
from core.queue.worker.soft_timeout import ThreadCall, run_coroutine
from tests.unit.worker.conftest import PROMPT, Workshop

SOON = 0.02


class Saves(Job):
    soft_timeout: float = SOON

    async def handle(self) -> None:
        try:
            await asyncio.Event().wait()
        except SoftTimeout:
            await asyncio.sleep(2 * SOON)  # it is raised once: saving may take its time
            JOURNAL.append("saved")


class DoesNotSave(Job):
    soft_timeout = SOON

    async def handle(self) -> None:
        await asyncio.Event().wait()


class InTime(Job):
    soft_timeout: float = 3600

    async def handle(self) -> None:
        JOURNAL.append("ended")


JOURNAL: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    JOURNAL.clear()


# ── coroutines ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_coroutine_gets_it_at_its_await_and_may_still_complete(workshop: Workshop) -> None:
    await workshop.dispatch(Saves())
    await workshop.work()
    assert JOURNAL == ["saved"] and len(workshop.of(JobCompleted)) == 1


async def test_a_job_that_does_not_catch_it_fails_with_it(workshop: Workshop) -> None:
    await workshop.dispatch(DoesNotSave())
    await workshop.work(max_tries=1)
    (failed,) = workshop.of(JobFailed)
    assert type(failed.exception) is SoftTimeout
    (row,) = await workshop.driver.failures.rows()
    assert "await asyncio.Event().wait()" in row.exception and "core.errors.SoftTimeout" in row.exception


async def test_a_job_in_time_hears_nothing_of_it(workshop: Workshop) -> None:
    await workshop.dispatch(InTime())
    await workshop.work()
    assert JOURNAL == ["ended"]


async def test_it_travels_with_an_instance(workshop: Workshop) -> None:
    job = InTime()
    job.soft_timeout = 7.5
    await workshop.dispatch(job)
    (fetched,) = await workshop.driver.fetch(["default"], 1, 60)
    assert b'"soft_timeout":7.5' in fetched.payload


async def test_timeout_still_ends_a_job_that_goes_on(workshop: Workshop) -> None:
    class GoesOn(Saves):
        timeout = 5 * SOON

        async def handle(self) -> None:
            try:
                await asyncio.Event().wait()
            except SoftTimeout:
                await asyncio.Event().wait()

    await workshop.dispatch(GoesOn())
    await workshop.work(max_tries=1)
    assert isinstance(workshop.of(JobFailed)[0].exception, JobTimeoutError)


async def test_a_job_that_is_handed_back_is_not_told_of_a_soft_timeout(workshop: Workshop) -> None:
    class Told(DoesNotSave):
        soft_timeout: float = 3600

        async def handle(self) -> None:
            try:
                await asyncio.Event().wait()
            except SoftTimeout:
                JOURNAL.append("told")

    await workshop.dispatch(Told())
    worker, task = workshop.start(grace=0)
    await workshop.until(lambda: len(workshop.of(JobStarted)) == 1)
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert len(workshop.of(JobReleased)) == 1 and not JOURNAL


async def test_a_task_group_ends_its_tasks() -> None:
    ended: list[str] = []

    async def member() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("member")

    async def handle() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(member())
            group.create_task(member())

    with pytest.raises(SoftTimeout):
        await run_coroutine(handle(), SOON)
    assert ended == ["member", "member"]


async def test_what_it_awaits_is_cancelled_and_timeouts_of_its_own_keep_their_meaning() -> None:
    async def handle() -> None:
        try:
            async with asyncio.timeout(3600):
                await asyncio.wait_for(asyncio.Event().wait(), 3600)
        except SoftTimeout:
            JOURNAL.append("soft")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    await run_coroutine(handle(), SOON)
    assert JOURNAL == ["soft"]


async def test_a_cancellation_from_elsewhere_comes_first() -> None:
    caught: list[BaseException] = []
    waiting = asyncio.Event()

    async def handle() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            caught.append(error)
            raise

    task = asyncio.create_task(run_coroutine(handle(), 0.25))
    await waiting.wait()
    time.sleep(0.3)  # noqa: ASYNC251, so that the timer is due in the moment of the cancellation
    asyncio.get_running_loop().call_later(0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert type(caught[0]) is asyncio.CancelledError and task.cancelled()


async def test_one_that_the_job_never_saw_leaves_nothing_behind() -> None:
    task = asyncio.current_task()
    assert task is not None

    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def handle() -> None:
        await asyncio.create_task(stubborn())

    await run_coroutine(handle(), SOON)
    assert task.cancelling() == 0


async def test_values_and_exceptions_of_what_it_awaits_go_through() -> None:
    async def handle() -> None:
        assert await asyncio.sleep(0, "value") == "value"
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(broken.set_exception, ValueError("boom"))
        with pytest.raises(ValueError, match="boom"):
            await broken
        raise KeyError("out")

    with pytest.raises(KeyError, match="out"):
        await run_coroutine(handle(), 3600)


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────


class SavesInThread(Job):
    soft_timeout = SOON

    def handle(self) -> None:
        try:
            self.save_all()
        except SoftTimeout:
            JOURNAL.append("saved")

    def save_all(self) -> None:
        give_up = time.monotonic() + PROMPT
        while time.monotonic() < give_up:
            pass


async def test_a_thread_gets_it_between_two_steps(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is where it catches it: a busy machine may not get it there within a soft timeout that is short."""
    loop, passed = asyncio.get_running_loop(), 0.0
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)

    def pass_time() -> None:
        nonlocal passed
        passed = 3.0

    class Ready(SavesInThread):
        soft_timeout = 3.0

        def save_all(self) -> None:
            loop.call_soon_threadsafe(pass_time)
            super().save_all()

    await workshop.dispatch(Ready())
    await workshop.work()
    assert JOURNAL == ["saved"] and len(workshop.of(JobCompleted)) == 1


async def test_a_thread_that_does_not_catch_it_fails_with_it(workshop: Workshop) -> None:
    class Computes(SavesInThread):
        def handle(self) -> None:
            give_up = time.monotonic() + PROMPT
            while time.monotonic() < give_up:
                pass

    await workshop.dispatch(Computes())
    await workshop.work(max_tries=1)
    (failed,) = workshop.of(JobFailed)
    assert type(failed.exception) is SoftTimeout


def test_a_thread_is_not_interrupted_once_its_job_has_returned() -> None:
    """It may run another job by then."""
    call = ThreadCall(lambda: None)
    call()
    call.interrupt()
    for _ in range(1000):
        time.sleep(0)


def test_an_interruption_on_its_way_does_not_arrive_after_the_call() -> None:
    outcomes: list[Any] = []

    def interrupted_at_the_end() -> None:
        call = ThreadCall(lambda: call.interrupt())
        try:
            call()
            outcomes.append("returned")
        except SoftTimeout:
            outcomes.append("raised")
        for _ in range(1000):
            time.sleep(0)
        outcomes.append("went on")

    thread = threading.Thread(target=interrupted_at_the_end)
    thread.start()
    thread.join(PROMPT)
    assert outcomes in (["returned", "went on"], ["raised", "went on"])


TRACED = """
import sys
from core.queue.worker.soft_timeout import SoftTimeout, ThreadCall

def trace(*_):
    return trace

sys.settrace(trace)
call = ThreadCall(lambda: call.interrupt())
try:
    call()
except SoftTimeout:
    pass
for _ in range(1000):
    (lambda: None)()
"""


def test_one_that_was_taken_back_does_not_stop_a_traced_program() -> None:
    """As debuggers and coverage tools trace it: Python 3.11 looks for what is on its way before each call."""
    subprocess.run([sys.executable, "-c", TRACED], check=True, timeout=PROMPT)
