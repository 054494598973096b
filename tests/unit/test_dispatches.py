"""A message whose controller is called again dispatches each of its jobs once, under one id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta

import pytest

from core.errors import QueueUnavailableError
from core.job import Job
from core.observability.events import Events, JobsDispatched
from core.queue.dispatches import current_dispatches
from core.queue.drivers.memory import MemoryDriver
from core.queue.queue_manager import QueueManager, dispatch, queue
from core.queue.state import NewJob
from tests.handled import handle


class Alarm(Job):
    pump: int

    async def handle(self) -> None:
        """Nobody runs it."""


class Forgetful(MemoryDriver):
    """Does what it is asked, and tells nobody so as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers_lost = 0
        self.refusals = 0
        self.pushed: list[str] = []

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        self.pushed += [job.job_id for job in jobs]
        if self.refusals:
            self.refusals -= 1
            raise QueueUnavailableError("nothing is stored")
        standing = await super().push(jobs)
        if self.answers_lost:
            self.answers_lost -= 1
            raise QueueUnavailableError("the answer got lost")
        return standing


@pytest.fixture
def driver() -> Forgetful:
    return Forgetful()


@pytest.fixture
def told() -> list[JobsDispatched]:
    return []


@pytest.fixture
async def manager(driver: Forgetful, told: list[JobsDispatched]) -> AsyncIterator[QueueManager]:
    events = Events()
    events.subscribe(JobsDispatched, told.append)
    manager = QueueManager({"database": lambda: driver}, events=events)
    await manager.open()
    yield manager
    await manager.close()


async def test_a_job_whose_push_was_not_answered_is_there_once(manager: QueueManager, driver: Forgetful) -> None:
    driver.answers_lost = 3
    await handle(lambda: dispatch(Alarm(pump=7)))
    assert await driver.size("default") == 1
    assert len(driver.pushed) == 4
    assert len(set(driver.pushed)) == 1


async def test_a_job_that_is_stored_is_not_pushed_again(
    manager: QueueManager, driver: Forgetful, told: list[JobsDispatched]
) -> None:
    ids: list[list[str]] = []

    async def controller() -> None:
        ids.append([await dispatch(Alarm(pump=7))])
        if len(ids) == 1:
            driver.answers_lost = 1
        ids[-1].append(await dispatch(Alarm(pump=8)))

    await handle(controller)
    assert await driver.size("default") == 2
    assert ids[1][0] == ids[0][0]
    assert driver.pushed == [ids[1][0], ids[1][1], ids[1][1]]
    assert len(told) == 2


async def test_what_is_stored_goes_before_what_was_tried_in_vain(manager: QueueManager, driver: Forgetful) -> None:
    driver.refusals = 1
    ids: list[str] = []

    async def controller() -> None:
        if not ids:
            with pytest.raises(QueueUnavailableError):
                await dispatch(Alarm(pump=7))
        ids.append(await dispatch(Alarm(pump=7)))
        if len(ids) == 1:
            raise ValueError("once more")

    await handle(controller)
    assert ids == [ids[0]] * 2
    assert await driver.size("default") == 1


async def test_what_a_bulk_has_stored_is_not_pushed_again_even_when_it_is_done(
    manager: QueueManager, driver: Forgetful
) -> None:
    ids: list[list[str]] = []

    async def controller() -> None:
        ids.append(await queue.bulk([Alarm(pump=number) for number in range(3)]))
        if len(ids) == 1:
            done = await driver.fetch(["default"], 2, 60)
            await driver.complete([job.lease for job in done])
            raise ValueError("once more")

    await handle(controller)
    assert ids[0] == ids[1]
    assert await driver.size("default") == 1


async def test_a_controller_whose_jobs_differ_each_time_fills_no_memory(
    manager: QueueManager, driver: Forgetful
) -> None:
    driver.answers_lost = 200
    sizes: list[int] = []

    async def controller() -> None:
        dispatches = current_dispatches()
        assert dispatches is not None
        sizes.append(len(dispatches._unmatched))
        await dispatch(Alarm(pump=len(sizes)))

    await handle(controller)
    assert len(sizes) == 201
    assert max(sizes) <= 2


async def test_a_controller_that_raises_dispatches_once(manager: QueueManager, driver: Forgetful) -> None:
    calls = 0

    async def controller() -> None:
        nonlocal calls
        calls += 1
        await dispatch(Alarm(pump=7))
        if calls < 3:
            raise ValueError(calls)

    await handle(controller)
    assert await driver.size("default") == 1


async def test_jobs_that_are_alike_are_as_many_as_one_try_dispatches(manager: QueueManager, driver: Forgetful) -> None:
    driver.answers_lost = 2

    async def controller() -> None:
        await asyncio.gather(*(dispatch(Alarm(pump=7)) for _ in range(3)))

    await handle(controller)
    assert await driver.size("default") == 3


@pytest.mark.parametrize(
    "other",
    [
        lambda: dispatch(Alarm(pump=8)),
        lambda: dispatch(Alarm(pump=7), queue="other"),
        lambda: dispatch(Alarm(pump=7), delay=60),
        lambda: dispatch(Alarm(pump=7), unique_for=60),
    ],
)
async def test_a_job_that_is_another_is_dispatched(
    manager: QueueManager, driver: Forgetful, other: Callable[[], object]
) -> None:
    calls = 0

    async def controller() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await dispatch(Alarm(pump=7))
            raise ValueError(calls)
        await other()  # type: ignore[misc]

    await handle(controller)
    assert len(set(driver.pushed)) == 2


async def test_many_at_once_are_there_once(manager: QueueManager, driver: Forgetful) -> None:
    driver.answers_lost = 1
    await handle(lambda: queue.bulk([Alarm(pump=pump) for pump in range(5)]))
    assert await driver.size("default") == 5


async def test_a_controller_in_a_thread_dispatches_once(manager: QueueManager, driver: Forgetful) -> None:
    from core.queue.queue_manager import dispatch_from_thread

    driver.answers_lost = 1

    def controller() -> None:
        dispatch_from_thread(Alarm(pump=7), delay=timedelta(seconds=1))

    await handle(controller)
    assert await driver.size("default") == 1


async def test_the_next_message_dispatches_anew(manager: QueueManager, driver: Forgetful) -> None:
    await handle(lambda: dispatch(Alarm(pump=7)), times=2)
    assert await driver.size("default") == 2


async def test_what_a_controller_leaves_running_belongs_to_no_message(manager: QueueManager, driver: Forgetful) -> None:
    left: list[asyncio.Task[str]] = []
    over = asyncio.Event()

    async def later() -> str:
        await over.wait()
        return await dispatch(Alarm(pump=7))

    async def controller() -> None:
        await dispatch(Alarm(pump=7))
        left.append(asyncio.create_task(later()))
        if len(left) == 1:
            raise ValueError("call me again")

    await handle(controller)
    over.set()
    await asyncio.gather(*left)
    assert await driver.size("default") == 3
