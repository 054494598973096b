"""Dispatching with `unique_for`, with an ordering key, and in the handling of a message that has either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from core.errors import DispatchError
from core.job import Job, job_name
from core.observability.events import Event, Events, JobDeduplicated, JobsDispatched
from core.queue.drivers.memory import MemoryDriver
from core.queue.envelope import ordering_key_of
from core.queue.origin import Origin, dispatching_from
from core.queue.queue_manager import DispatchOptions, QueueManager, dispatch, dispatch_from_thread, queue
from core.queue.state import NewJob


class KeepingOut(MemoryDriver):
    """Remembers what was pushed, and keeps out a second job of a unique key: for ever, as its clock stands still."""

    def __init__(self) -> None:
        super().__init__(monotonic=lambda: 1000.0)
        self.pushed: list[NewJob] = []
        self._by_key: dict[tuple[str, str], str] = {}

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        self.pushed += jobs
        standing = {job.job_id: self._standing(job) for job in jobs if self._standing(job) != job.job_id}
        await super().push([job for job in jobs if job.job_id not in standing])
        return standing

    def _standing(self, job: NewJob) -> str:
        if job.unique_key is None:
            return job.job_id
        return self._by_key.setdefault((job.queue, job.unique_key), job.job_id)


class Ping(Job):
    n: int = 0


class Pong(Job):
    n: int = 0


class Keyed(Job):
    ordering_key = "device"
    device: Any


@pytest.fixture
def driver() -> KeepingOut:
    return KeepingOut()


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
async def manager(driver: KeepingOut, told: list[Event]) -> AsyncIterator[QueueManager]:
    events = Events()
    events.subscribe(Event, told.append)
    manager = QueueManager({"memory": lambda: driver}, DispatchOptions("memory"), events=events)
    await manager.open()
    yield manager
    await manager.close()


pytestmark = pytest.mark.usefixtures("manager")


# ── unique_for ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_job_is_stored_once_and_its_id_returned(told: list[Event]) -> None:
    first, second = Ping(n=1), Ping(n=1)
    job_id = await dispatch(first, unique_for=60)
    assert await dispatch(second, unique_for=60) == job_id
    assert (first.job_id, second.job_id) == (job_id, job_id)
    assert await queue.size() == 1
    assert told == [JobsDispatched("default", 1), JobDeduplicated(job_id, job_name(Ping), "default")]


async def test_another_class_other_data_and_another_queue_are_other_jobs() -> None:
    ids = [
        await dispatch(Ping(n=1), unique_for=60),
        await dispatch(Ping(n=2), unique_for=60),
        await dispatch(Pong(n=1), unique_for=60),
        await dispatch(Ping(n=1), unique_for=60, queue="other"),
        await dispatch(Ping(n=1), unique_for=60, unique_by="x"),
        await dispatch(Pong(n=1), unique_for=60, unique_by="x"),
    ]
    assert len(set(ids)) == 6


async def test_unique_by_says_what_is_the_same() -> None:
    ids = [await dispatch(Ping(n=n), unique_for=60, unique_by="order 7") for n in range(3)]
    assert len(set(ids)) == 1


async def test_without_unique_for_every_dispatch_is_a_job(driver: KeepingOut) -> None:
    assert len({await dispatch(Ping()) for _ in range(3)}) == 3
    assert [(job.unique_key, job.unique_for, job.ordering_key) for job in driver.pushed] == [(None, 0.0, None)] * 3


@pytest.mark.parametrize("window", [1.5, timedelta(seconds=1.5)], ids=repr)
async def test_every_door_takes_unique_for(driver: KeepingOut, window: Any) -> None:
    ids = [
        await dispatch(Ping(), unique_for=window),
        await queue.push(Ping(), unique_for=window),
        await queue.later(60, Ping(), unique_for=window),
        await asyncio.to_thread(dispatch_from_thread, Ping(), unique_for=window),
        *await queue.bulk([Ping(), Ping()], unique_for=window),
    ]
    assert len(set(ids)) == 1
    assert {job.unique_for for job in driver.pushed} == {1.5}
    named = [
        await queue.push(Ping(), unique_for=window, unique_by="x"),
        await queue.later(60, Ping(n=2), unique_for=window, unique_by="x"),
        await asyncio.to_thread(dispatch_from_thread, Ping(n=3), unique_for=window, unique_by="x"),
    ]
    assert len({*ids, *named}) == 2


async def test_bulk_hands_the_ids_back_in_order_and_tells_of_both(told: list[Event]) -> None:
    await dispatch(Ping(n=1), unique_for=60)
    told.clear()
    jobs = [Ping(n=0), Ping(n=1), Ping(n=2), Ping(n=0)]
    ids = await queue.bulk(jobs, unique_for=60)
    assert [job.job_id for job in jobs] == ids
    assert ids[0] == ids[3] and len(set(ids)) == 3
    assert sorted(told, key=repr) == [
        JobDeduplicated(ids[1], job_name(Ping), "default"),
        JobDeduplicated(ids[3], job_name(Ping), "default"),
        JobsDispatched("default", 2),
    ]


async def test_dispatches_of_the_same_job_at_the_same_time_store_it_once() -> None:
    ids = await asyncio.gather(*(dispatch(Ping(n=7), unique_for=60) for _ in range(50)))
    assert len(set(ids)) == 1
    assert await queue.size() == 1


NO_WINDOWS = [0, -1, float("nan"), float("inf"), timedelta(0), timedelta(days=40_000), "5m", True]


@pytest.mark.parametrize("window", NO_WINDOWS, ids=repr)
async def test_a_window_that_cannot_be_is_refused(driver: KeepingOut, window: Any) -> None:
    for attempt in (dispatch(Ping(), unique_for=window), queue.bulk([Ping()], unique_for=window)):
        with pytest.raises(DispatchError, match="is not usable; give seconds above 0, up to a hundred years"):
            await attempt
    assert driver.pushed == []


async def test_unique_by_alone_is_refused(driver: KeepingOut) -> None:
    with pytest.raises(DispatchError, match="unique_by='x' says nothing without unique_for"):
        await dispatch(Ping(), unique_by="x")
    assert driver.pushed == []


# ── ordering keys ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_goes_to_the_store_and_into_the_envelope(driver: KeepingOut) -> None:
    await dispatch(Keyed(device=7))
    await queue.bulk([Keyed(device="a"), Keyed(device=None), Ping()])
    assert [job.ordering_key for job in driver.pushed] == ["7", "a", None, None]
    assert [ordering_key_of(job.payload) for job in driver.pushed] == ["7", "a", None, None]


async def test_a_key_that_cannot_be_is_refused(driver: KeepingOut) -> None:
    with pytest.raises(DispatchError, match="ordering_key is a float"):
        await dispatch(Keyed(device=1.5))
    assert driver.pushed == []


# ── in the handling of a message ─────────────────────────────────────────────────────────────────────────


def origin(identity: str | None = "message 1", ordering_key: str | None = None) -> Origin:
    return Origin(identity, 3600.0, ordering_key)


async def test_jobs_of_a_message_are_told_apart_whatever_their_order(driver: KeepingOut) -> None:
    """One of them took another's key, and was nowhere, if they were told apart by their number."""
    with dispatching_from(origin()):
        first = [await dispatch(Ping(n=1))]
    with dispatching_from(origin()):
        second = [await dispatch(Ping(n=2)), await dispatch(Ping(n=1))]
    assert second[1] == first[0]
    assert second[0] != first[0]


async def test_a_message_handled_again_dispatches_the_same_jobs_once(driver: KeepingOut) -> None:
    ids = []
    for _ in range(2):
        with dispatching_from(origin()):
            ids.append([await dispatch(Ping(n=1)), await dispatch(Ping(n=1)), await dispatch(Pong(n=1))])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3
    assert {job.unique_for for job in driver.pushed} == {3600.0}


async def test_a_try_that_ended_early_is_taken_up_where_it_ended() -> None:
    with dispatching_from(origin()):
        first = await dispatch(Ping())
    with dispatching_from(origin()):
        assert await dispatch(Ping()) == first
        assert await dispatch(Ping()) != first
    assert await queue.size() == 2


async def test_another_message_dispatches_jobs_of_its_own() -> None:
    for identity in ("message 1", "message 2"):
        with dispatching_from(origin(identity)):
            await dispatch(Ping())
    assert await queue.size() == 2


async def test_classes_are_counted_apart_so_that_their_order_makes_no_difference() -> None:
    """A controller that gathers its dispatches makes them in any order."""
    with dispatching_from(origin()):
        before = {await dispatch(Ping()), await dispatch(Pong())}
    with dispatching_from(origin()):
        after = {await dispatch(Pong()), await dispatch(Ping())}
    assert before == after


async def test_tasks_and_threads_of_the_handling_count_together() -> None:
    async def handle() -> set[str]:
        with dispatching_from(origin()):
            gathered = await asyncio.gather(*(dispatch(Ping()) for _ in range(3)))
            from_threads = [await asyncio.to_thread(dispatch_from_thread, Ping()) for _ in range(3)]
            bulk = await queue.bulk([Ping(), Ping()])
            return {*gathered, *from_threads, *bulk}

    first = await handle()
    assert len(first) == 8
    assert await handle() == first


async def test_what_a_dispatch_asks_for_itself_wins(driver: KeepingOut) -> None:
    with dispatching_from(origin()):
        first = await dispatch(Ping(n=1), unique_for=5)
    with dispatching_from(origin("message 2")):
        assert await dispatch(Ping(n=1), unique_for=5) == first
    assert [job.unique_for for job in driver.pushed] == [5.0, 5.0]


async def test_a_job_takes_the_key_of_its_message_unless_it_has_one_of_its_own(driver: KeepingOut) -> None:
    with dispatching_from(origin(None, "pump-7")):
        await dispatch(Ping())
        await dispatch(Keyed(device="own"))
        await dispatch(Keyed(device=None))
        await queue.bulk([Ping()])
    assert [job.ordering_key for job in driver.pushed] == ["pump-7", "own", None, "pump-7"]
    assert [ordering_key_of(job.payload) for job in driver.pushed] == ["pump-7", "own", None, "pump-7"]
    assert {job.unique_key for job in driver.pushed} == {None}


async def test_what_is_dispatched_elsewhere_takes_over_nothing(driver: KeepingOut) -> None:
    with dispatching_from(origin(ordering_key="pump-7")):
        pass
    await dispatch(Ping())
    assert (driver.pushed[0].unique_key, driver.pushed[0].ordering_key) == (None, None)


async def test_messages_handled_at_the_same_time_do_not_mix(driver: KeepingOut) -> None:
    async def handle(key: str) -> None:
        with dispatching_from(origin(f"message {key}", key)):
            for _ in range(3):
                await asyncio.sleep(0)
                await dispatch(Ping(n=int(key)))

    await asyncio.gather(*(handle(str(number)) for number in range(10)))
    assert await queue.size() == 30
    assert all(f'"n":{job.ordering_key}'.encode() in job.payload for job in driver.pushed)
