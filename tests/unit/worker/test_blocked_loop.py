"""A job that blocks the event loop is named in the log, with the place where it stands."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from core.job import Job, job_name
from core.observability.events import JobCompleted
from core.queue.worker.blocked_loop import _Watch, watch_loop
from core.tasks import end_tasks
from tests.unit.worker.conftest import PROMPT, Workshop

SOON = 0.05


class Warnings(logging.Handler):
    """Waits, in whatever thread, for the log to speak."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._heard = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        self._heard.release()

    def next(self, timeout: float = PROMPT) -> bool:
        return self._heard.acquire(timeout=timeout)


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler = Warnings()
    logger = logging.getLogger("routemq.queue.worker")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_a_job_that_blocks_is_named_with_its_stack(workshop: Workshop, warnings: Warnings) -> None:
    class Blocks(Job):
        async def handle(self) -> None:
            assert warnings.next(), "while the loop is blocked"

    (job_id,) = await workshop.dispatch(Blocks())
    await workshop.work(blocked_loop_warning=SOON)
    assert len(workshop.of(JobCompleted)) == 1
    (said,) = warnings.said
    assert f"{job_name(Blocks)} {job_id} blocks the event loop" in said
    assert __file__ in said and "in handle" in said


async def test_once_per_blocking(warnings: Warnings) -> None:
    watching = asyncio.create_task(watch_loop(SOON))
    await asyncio.sleep(0)
    for _ in range(2):
        assert warnings.next()
        assert not warnings.next(5 * SOON), "a second time"
        await asyncio.sleep(SOON)
    assert len(warnings.said) == 2
    await end_tasks(watching)


class Loop:
    """Answers at once."""

    def call_soon_threadsafe(self, answer: Callable[[], None]) -> None:
        answer()


class Pauses:
    """Between one question and the next; `wait` takes no time, and ends the watch after some."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.taken.append(seconds)
        return len(self.taken) == 100


def test_a_blocking_of_little_more_than_the_limit_is_seen() -> None:
    """One that begins just after an answer is noticed from the next question on."""
    watch, pauses = _Watch(cast("asyncio.AbstractEventLoop", Loop()), 5.0), Pauses()
    watch._stopping = cast("threading.Event", pauses)
    watch.run()
    assert max(pauses.taken) <= 0.5


async def test_without_a_limit_nothing_is_watched(workshop: Workshop) -> None:
    workshop.start(blocked_loop_warning=0)
    await asyncio.sleep(0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("blocked-loop")]


async def test_an_idle_loop_is_left_in_peace(warnings: Warnings) -> None:
    watching = asyncio.create_task(watch_loop(0.2))
    await asyncio.sleep(0.7)
    await end_tasks(watching)
    assert not warnings.said


async def test_a_watch_that_fails_leaves_its_worker_alone(
    workshop: Workshop, warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waits(Job):
        async def handle(self) -> None:
            assert await asyncio.to_thread(warnings.next)

    def cannot(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_Watch, "run", cannot)
    await workshop.dispatch(Waits())
    await workshop.work(blocked_loop_warning=SOON)
    assert len(workshop.of(JobCompleted)) == 1
    (said,) = warnings.said
    assert "blocked event loop" in said
