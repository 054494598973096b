"""The queue manager: where jobs go in, and the doors to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import pytest

from core.errors import DispatchError, NotRunningError, PayloadTooLargeError, QueueUnavailableError, SettingError
from core.job import Job
from core.observability.events import Events, JobsDispatched
from core.queue import group_commit
from core.queue.driver import Driver
from core.queue.drivers.memory import MemoryDriver
from core.queue.envelope import load_job, read_envelope
from core.queue.queue_manager import (
    DispatchOptions,
    QueueManager,
    current,
    dispatch,
    dispatch_from_thread,
    queue,
)
from core.queue.queue_name import MAX_QUEUE_NAME
from core.queue.registry import JobRegistry
from core.queue.state import NewJob

MEBIBYTE = 1024 * 1024


class SendEmail(Job):
    queue = "emails"
    to: str = "a@example.com"


def unfit() -> SendEmail:
    """Its field has a value of another type."""
    job: Any = SendEmail()
    job.to = 7
    return cast(SendEmail, job)


class Ping(Job):
    pass


class Blob(Job):
    data: bytes


REGISTRY = JobRegistry([SendEmail, Ping, Blob])


class CountingDriver(MemoryDriver):
    """In memory; remembers how it was used, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.pushes: list[list[NewJob]] = []
        self.closed_with: list[int] = []
        self.down = False
        self.down_after = 1_000_000
        """Pushes."""

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        self.pushes.append(list(jobs))
        if self.down or len(self.pushes) > self.down_after:
            raise QueueUnavailableError("Redis at here:1 does not answer.")
        return await super().push(jobs)

    async def close(self) -> None:
        self.closed_with.append(await self.size("default"))


class StillClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")


@pytest.fixture
def driver() -> CountingDriver:
    return CountingDriver()


@pytest.fixture
async def manager(driver: CountingDriver) -> AsyncIterator[QueueManager]:
    manager = manager_of(driver)
    await manager.open()
    yield manager
    await manager.close()


def manager_of(driver: Driver, **options: Any) -> QueueManager:
    return QueueManager({"memory": lambda: driver}, DispatchOptions("memory", **options))


async def fetched(driver: Driver, name: str = "default") -> list[Any]:
    """The jobs of a queue, as a worker has them."""
    return [load_job(read_envelope(each.payload), REGISTRY) for each in await driver.fetch([name], 100, 60.0)]


# ── push ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_dispatch_returns_the_id_of_the_stored_job(manager: QueueManager, driver: CountingDriver) -> None:
    job = SendEmail(to="b@example.com")
    job_id = await dispatch(job)
    (stored,) = await fetched(driver, "emails")
    assert (stored.job_id, stored.to, job.job_id) == (job_id, "b@example.com", job_id)


async def test_a_job_dispatched_twice_is_two_jobs(manager: QueueManager, driver: CountingDriver) -> None:
    job = SendEmail()
    assert await dispatch(job) < await dispatch(job)
    assert await queue.size("emails") == 2


async def test_the_envelope_holds_queue_and_moment(driver: CountingDriver) -> None:
    manager = QueueManager({"memory": lambda: driver}, DispatchOptions("memory"), clock=StillClock())
    await manager.push(Ping(), queue="other")
    envelope = json.loads(driver.pushes[0][0].payload)
    assert (envelope["queue"], envelope["dispatched_at"]) == ("other", "2026-11-22T00:00:00Z")


async def test_a_queue_given_wins_over_the_instances_over_the_class_over_the_default(
    driver: CountingDriver,
) -> None:
    manager = manager_of(driver, default_queue="rest")
    own = SendEmail()
    own.queue = "mine"
    for job, given in ((SendEmail(), "given"), (own, None), (SendEmail(), None), (Ping(), None)):
        await manager.push(job, queue=given)
    assert [push[0].queue for push in driver.pushes] == ["given", "mine", "emails", "rest"]


async def test_pitfall_33_options_of_an_instance_arrive_at_the_worker(
    manager: QueueManager, driver: CountingDriver
) -> None:
    job = Ping()
    job.max_tries, job.retry_after, job.timeout = 7, 1.5, 0
    await dispatch(job)
    (stored,) = await fetched(driver)
    assert (stored.max_tries, stored.retry_after, stored.timeout) == (7, 1.5, 0)


async def test_pitfall_35_an_mqtt_payload_that_is_no_text_is_dispatched(
    manager: QueueManager, driver: CountingDriver
) -> None:
    plain = Ping()
    vars(plain).update(payload=b"\xff\x00", received=datetime(2026, 1, 1, tzinfo=UTC))
    await queue.bulk([Blob(data=b"\xff\x00"), plain])
    blob, read = await fetched(driver)
    assert (blob.data, read.payload, read.received) == (b"\xff\x00", b"\xff\x00", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "name",
    ["x" * (MAX_QUEUE_NAME + 1), "a\nb", "\x00", "\ud800", 7, b"emails", "a,b", "x=3", " a", "a ", " "],
    ids=lambda name: repr(name)[:8],
)
async def test_a_name_that_no_queue_can_have_is_refused(
    manager: QueueManager, driver: CountingDriver, name: Any
) -> None:
    job = SendEmail()
    job.queue = name
    with pytest.raises(DispatchError, match="is no name for a queue: use 1 to 191 printable characters"):
        await dispatch(job)
    with pytest.raises(DispatchError, match="is no name for a queue"):
        await queue.bulk([Ping()], queue=name)
    assert driver.pushes == []


@pytest.mark.parametrize("name", ["x", "x" * MAX_QUEUE_NAME, "a b", "日本", "{a}:b"], ids=lambda name: name[:6])
async def test_any_printable_name_is_a_queue(manager: QueueManager, name: str) -> None:
    await dispatch(Ping(), queue=name)
    assert await queue.size(name) == 1


# ── delays ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delay", [60, 60.0, timedelta(minutes=1)], ids=repr)
async def test_later_schedules(manager: QueueManager, driver: CountingDriver, delay: Any) -> None:
    await queue.later(delay, SendEmail())
    await dispatch(SendEmail(), delay=delay)
    await queue.push(SendEmail(), delay=delay)
    await queue.bulk([SendEmail()], delay=delay)
    assert [job.delay for push in driver.pushes for job in push] == [60.0] * 4
    assert (await queue.stats("emails")).scheduled == 4


@pytest.mark.parametrize(
    "delay", [-1, -0.001, float("nan"), float("inf"), timedelta(seconds=-1), timedelta(days=40_000)], ids=repr
)
async def test_a_delay_that_cannot_be_is_refused(manager: QueueManager, driver: CountingDriver, delay: Any) -> None:
    for attempt in (queue.later(delay, Ping()), dispatch(Ping(), delay=delay), queue.bulk([Ping()], delay=delay)):
        with pytest.raises(DispatchError, match="give seconds from 0 up to a hundred years"):
            await attempt
    assert driver.pushes == []


# ── payloads ─────────────────────────────────────────────────────────────────────────────────────────────


def size_of(job: Job) -> int:
    prepared = manager_of(MemoryDriver(), max_payload=64 * MEBIBYTE)._prepare(job, None, 0)
    return len(prepared.payload)


async def test_a_payload_beyond_queue_max_payload_is_refused_with_both_sizes_and_the_remedy(
    driver: CountingDriver,
) -> None:
    job = Blob(data=b"x" * 300)
    size = size_of(job)
    with pytest.raises(PayloadTooLargeError) as caught:
        await manager_of(driver, max_payload=size - 1).push(job)
    assert str(caught.value) == (
        f"{__name__}.Blob has a payload of {size} bytes; QUEUE_MAX_PAYLOAD allows {size - 1}. "
        "Store the data elsewhere and dispatch a reference, or raise the setting."
    )
    assert driver.pushes == []
    assert isinstance(caught.value, DispatchError)


async def test_a_payload_of_just_queue_max_payload_is_stored(driver: CountingDriver) -> None:
    job = Blob(data=b"x" * 300)
    await manager_of(driver, max_payload=size_of(job)).push(job)
    assert len(driver.pushes) == 1


async def test_a_payload_of_16_mib_is_stored_and_comes_back(driver: CountingDriver) -> None:
    limit = 16 * MEBIBYTE
    job = Blob(data=b"x" * ((limit - 1024) // 4 * 3))
    assert limit - 2048 < size_of(job) <= limit
    await manager_of(driver, max_payload=limit).push(job)
    (stored,) = await fetched(driver)
    assert stored.data == job.data


async def test_the_default_limit_is_one_mebibyte(driver: CountingDriver) -> None:
    with pytest.raises(PayloadTooLargeError, match="QUEUE_MAX_PAYLOAD allows 1048576"):
        await manager_of(driver).push(Blob(data=bytes(MEBIBYTE)))


async def test_a_job_that_cannot_be_stored_reaches_no_store(manager: QueueManager, driver: CountingDriver) -> None:
    with pytest.raises(DispatchError, match="Nothing was stored"):
        await dispatch(unfit())
    assert driver.pushes == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Blob, r"What is dispatched is the class Blob; give it one job of it: Blob\(…\)\. It was not stored"),
        (str, "is the class str;"),
        ("a job", "What is dispatched is a str; give it an instance of a subclass of Job"),
        (None, "is a NoneType;"),
    ],
)
async def test_what_is_no_job_is_refused(manager: QueueManager, driver: CountingDriver, given: Any, said: str) -> None:
    with pytest.raises(DispatchError, match=said):
        await dispatch(given)
    with pytest.raises(DispatchError, match=said):
        await queue.bulk([given])
    assert driver.pushes == []


# ── group commit and bulk ────────────────────────────────────────────────────────────────────────────────


async def test_concurrent_dispatches_share_one_push(manager: QueueManager, driver: CountingDriver) -> None:
    ids = await asyncio.gather(*(dispatch(SendEmail()) for _ in range(200)))
    assert [[job.job_id for job in push] for push in driver.pushes] == [ids]


async def test_max_pending_bounds_a_push(driver: CountingDriver) -> None:
    manager = manager_of(driver, max_pending=10)
    await asyncio.gather(*(manager.push(Ping()) for _ in range(100)))
    assert max(map(len, driver.pushes)) == 10
    assert await driver.size("default") == 100


async def test_bulk_is_one_push_and_keeps_the_order(manager: QueueManager, driver: CountingDriver) -> None:
    jobs = [SendEmail(to=str(number)) for number in range(100)]
    ids = await queue.bulk(jobs)
    assert len(driver.pushes) == 1
    assert [job.to for job in await fetched(driver, "emails")] == [job.to for job in jobs]
    assert [job.job_id for job in jobs] == ids == sorted(ids)


async def test_bulk_is_one_push_per_chunk(
    manager: QueueManager, driver: CountingDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_JOBS", 40)
    await queue.bulk([SendEmail()] * 100)
    assert [len(push) for push in driver.pushes] == [40, 40, 20]


async def test_bulk_takes_what_can_be_gone_through_once(manager: QueueManager, driver: CountingDriver) -> None:
    assert len(await queue.bulk(SendEmail() for _ in range(3))) == 3  # type: ignore[arg-type]
    assert await queue.bulk([]) == []
    assert len(driver.pushes) == 1


async def test_bulk_stores_nothing_when_one_job_cannot_be(manager: QueueManager, driver: CountingDriver) -> None:
    with pytest.raises(DispatchError):
        await queue.bulk([SendEmail(), unfit()])
    assert driver.pushes == []


async def test_bulk_stores_the_chunks_before_that_of_a_job_that_cannot_be(
    manager: QueueManager, driver: CountingDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_JOBS", 40)
    jobs = [*(SendEmail() for _ in range(90)), unfit(), SendEmail()]
    with pytest.raises(DispatchError) as caught:
        await queue.bulk(jobs)
    assert [len(push) for push in driver.pushes] == [40, 40]
    assert [hasattr(job, "job_id") for job in jobs] == [True] * 80 + [False] * 12
    assert caught.value.__notes__[0].startswith("Of the 92 jobs given to bulk(), the first 80 are stored")


async def test_bulk_prepares_the_next_jobs_while_the_store_writes(
    driver: CountingDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_JOBS", 40)
    order, are_prepared = list[str](), asyncio.Event()

    async def push(jobs: Sequence[NewJob]) -> Mapping[str, str]:
        order.append("writes")
        await are_prepared.wait()
        order.append("has written")
        return {}

    class Telling(SendEmail):
        @property
        def queue(self) -> str:  # type: ignore[override]
            order.append("prepares")
            if order.count("prepares") == 80:
                are_prepared.set()
            return "emails"

    monkeypatch.setattr(driver, "push", push)
    await manager_of(driver).bulk([Telling() for _ in range(80)])
    assert order == [*["prepares"] * 40, "writes", *["prepares"] * 40, "has written", "writes", "has written"]


@pytest.mark.parametrize(("chunks", "stored"), [(0, 0), (2, 80)])
async def test_bulk_cut_short_tells_of_what_is_stored(
    driver: CountingDriver, monkeypatch: pytest.MonkeyPatch, chunks: int, stored: int
) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_JOBS", 40)
    events, told = Events(), list[JobsDispatched]()
    events.subscribe(JobsDispatched, told.append)
    manager = QueueManager({"memory": lambda: driver}, DispatchOptions("memory"), events=events)
    driver.down_after = chunks
    jobs = [SendEmail() for _ in range(100)]
    with pytest.raises(QueueUnavailableError, match="here:1") as caught:
        await manager.bulk(jobs)
    (note,) = caught.value.__notes__
    assert note.startswith(f"Of the 100 jobs given to bulk(), the first {stored} are stored, and have a job_id;")
    ids = [job.job_id for job in await fetched(driver, "emails")]
    assert [vars(job).get("job_id") for job in jobs] == ids + [None] * (100 - stored)
    assert sum(event.count for event in told) == stored


async def test_bulk_goes_to_the_queue_that_is_given(manager: QueueManager) -> None:
    await queue.bulk([SendEmail(), Ping()], queue="other")
    assert await queue.size("other") == 2


async def test_an_unavailable_store_fails_every_dispatch(manager: QueueManager, driver: CountingDriver) -> None:
    driver.down = True
    results = await asyncio.gather(*(dispatch(SendEmail()) for _ in range(20)), return_exceptions=True)
    assert {type(each) for each in results} == {QueueUnavailableError}
    with pytest.raises(QueueUnavailableError, match="here:1"):
        await queue.bulk([Ping()])


async def test_dispatched_jobs_are_told_once_they_are_stored(driver: CountingDriver) -> None:
    events, told = Events(), list[JobsDispatched]()
    events.subscribe(JobsDispatched, told.append)
    manager = QueueManager({"memory": lambda: driver}, DispatchOptions("memory"), events=events)
    await manager.push(SendEmail())
    await manager.bulk([Ping(), Ping()])
    driver.down = True
    with pytest.raises(QueueUnavailableError):
        await manager.push(Ping())
    assert sum(event.count for event in told if event.queue == "emails") == 1
    assert sum(event.count for event in told if event.queue == "default") == 2


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_size_and_stats_ask_the_driver(manager: QueueManager) -> None:
    await queue.bulk([SendEmail(), SendEmail()])
    await queue.later(60, SendEmail())
    assert await queue.size("emails") == 3
    stats = await queue.stats("emails")
    assert (stats.queue, stats.available, stats.scheduled) == ("emails", 2, 1)


async def test_size_and_stats_are_of_the_default_queue_unless_told(manager: QueueManager) -> None:
    await dispatch(Ping())
    assert await queue.size() == 1
    stats = await queue.stats()
    assert (stats.queue, stats.available) == ("default", 1)


# ── drivers ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_driver_is_opened_when_it_is_first_needed_and_once() -> None:
    opened: list[str] = []

    def opening(name: str) -> Driver:
        opened.append(name)
        return MemoryDriver(name)

    factories = {name: (lambda name=name: opening(name)) for name in ("redis", "database")}
    manager = QueueManager(factories, DispatchOptions("database"))
    assert opened == []
    assert manager.driver("redis") is manager.driver("redis")
    assert manager.driver().connection == "database"
    assert opened == ["redis", "database"]


async def test_a_connection_that_is_not_there_is_named_with_those_that_are(manager: QueueManager) -> None:
    with pytest.raises(SettingError, match=r"There is no queue connection 'sqs'; there are: memory\."):
        manager.driver("sqs")


async def test_close_writes_what_waits_and_closes_the_drivers_it_opened(driver: CountingDriver) -> None:
    manager = manager_of(driver, max_pending=2)
    await manager.open()
    tasks = [asyncio.create_task(dispatch(Ping())) for _ in range(9)]
    await asyncio.sleep(0)
    await manager.close()
    assert driver.closed_with == [9]
    await asyncio.gather(*tasks)
    with pytest.raises(NotRunningError):
        current()


async def test_a_driver_that_cannot_be_closed_leaves_no_other_open() -> None:
    class Stuck(CountingDriver):
        async def close(self) -> None:
            await super().close()
            raise OSError(f"{self.connection} does not close")

    drivers = {"first": Stuck(), "second": CountingDriver(), "third": Stuck()}
    manager = QueueManager({name: partial(drivers.__getitem__, name) for name in drivers})
    for name in drivers:
        manager.driver(name)
    with pytest.raises(OSError, match="does not close"):
        await manager.close()
    assert [len(driver.closed_with) for driver in drivers.values()] == [1, 1, 1]
    await manager.close()
    assert [len(driver.closed_with) for driver in drivers.values()] == [1, 1, 1]


async def test_closing_twice_and_closing_what_was_never_opened_changes_nothing(driver: CountingDriver) -> None:
    manager = manager_of(driver)
    await manager.close()
    await manager.close()
    assert driver.closed_with == []


# ── doors ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "use",
    [
        lambda: dispatch(Ping()),
        lambda: queue.push(Ping()),
        lambda: queue.later(1, Ping()),
        lambda: queue.bulk([Ping()]),
        lambda: queue.size("emails"),
        lambda: queue.stats("emails"),
        lambda: asyncio.to_thread(dispatch_from_thread, Ping()),
    ],
    ids=["dispatch", "push", "later", "bulk", "size", "stats", "dispatch_from_thread"],
)
async def test_outside_an_application_every_door_says_what_to_do(use: Any) -> None:
    with pytest.raises(NotRunningError, match=r"wrap your code in `async with Application\(\):`"):
        await use()


async def test_the_manager_opened_last_is_the_one_spoken_to() -> None:
    outer, inner = CountingDriver(), CountingDriver()
    first, second = manager_of(outer), manager_of(inner)
    await first.open()
    await second.open()
    await dispatch(Ping())
    await second.close()
    await dispatch(Ping())
    await first.close()
    assert (len(outer.pushes), len(inner.pushes)) == (1, 1)


async def test_a_thread_dispatches_and_has_the_id_once_it_is_stored(
    manager: QueueManager, driver: CountingDriver
) -> None:
    ids = await asyncio.gather(
        *(asyncio.to_thread(dispatch_from_thread, SendEmail(to=str(number))) for number in range(10))
    )
    assert {job.job_id for job in await fetched(driver, "emails")} == set(ids)


async def test_a_thread_hears_of_what_cannot_be_dispatched(manager: QueueManager, driver: CountingDriver) -> None:
    with pytest.raises(DispatchError, match="Expected `str`, got `int`"):
        await asyncio.to_thread(dispatch_from_thread, unfit())
    driver.down = True
    with pytest.raises(QueueUnavailableError):
        await asyncio.to_thread(dispatch_from_thread, Ping())


async def test_a_thread_gives_queue_and_delay(manager: QueueManager, driver: CountingDriver) -> None:
    await asyncio.to_thread(dispatch_from_thread, Ping(), queue="other", delay=5)
    (pushed,) = driver.pushes[0]
    assert (pushed.queue, pushed.delay) == ("other", 5)


async def test_a_thread_door_used_on_the_event_loop_is_refused_instead_of_blocking_it(manager: QueueManager) -> None:
    with pytest.raises(DispatchError, match=r"called on the event loop.*`await dispatch\(job\)`"):
        dispatch_from_thread(Ping())


async def test_a_thread_with_an_event_loop_of_its_own_may_use_the_thread_door(manager: QueueManager) -> None:
    async def work() -> str:
        return dispatch_from_thread(Ping())

    assert await asyncio.to_thread(asyncio.run, work())
    assert await queue.size() == 1
