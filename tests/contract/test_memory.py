"""What is the memory driver's own: the store's clock in the test's hand, so that nothing waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.queue.drivers.memory import MemoryDriver
from core.queue.state import Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    VERBS,
    failed,
    ids,
    leases,
    new_job,
    new_jobs,
    pushed_and_fetched,
    states,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


class StoreClock:
    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


class RunningClock(StoreClock):
    """It goes on by a second with each look at it, as a real one does by less."""

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def clock() -> StoreClock:
    return StoreClock()


@pytest.fixture
def memory(clock: StoreClock) -> MemoryDriver:
    return MemoryDriver("tests", clock.monotonic, clock.now)


class CountingId(str):
    """A job id that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountingId.comparisons += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize("verb", VERBS)
async def test_pitfall_16_a_job_is_found_without_a_look_at_the_others(memory: MemoryDriver, verb: str) -> None:
    await memory.push([new_job(job_id=CountingId(job.job_id)) for job in new_jobs(200)])
    fetched = await memory.fetch([QUEUE], 200, LONG)
    CountingId.comparisons = 0
    assert await VERBS[verb](memory, leases(fetched[::-1])) == set()
    assert CountingId.comparisons <= 5 * 200


async def test_a_job_is_due_at_its_moment_and_not_before(memory: MemoryDriver, clock: StoreClock) -> None:
    await memory.push([new_job(delay=10)])
    clock.seconds += 9.999
    assert await memory.stage([QUEUE]) == pytest.approx(0.001)
    assert states(await memory.stats(QUEUE)) == {"scheduled": 1}
    clock.seconds += 0.001
    assert await memory.stage([QUEUE]) is None
    assert states(await memory.stats(QUEUE)) == {"available": 1}


async def test_a_lease_lasts_its_seconds(memory: MemoryDriver, clock: StoreClock) -> None:
    (job,) = await pushed_and_fetched(memory, 1, lease=15)
    clock.seconds += 14
    await memory.renew([job.lease], 15)
    clock.seconds += 14.999
    assert await memory.rescue([QUEUE]) == 0
    clock.seconds += 0.001
    assert await memory.rescue([QUEUE]) == 1


async def test_jobs_whose_leases_run_out_while_the_rescuer_looks_keep_their_order_and_come_back() -> None:
    """One `fetch` is one moment to the store, and so is one `rescue`."""
    for lease in (5, 6, 7, 8):
        memory = MemoryDriver("tests", RunningClock().monotonic)
        jobs = await pushed_and_fetched(memory, 3, lease=lease)
        await memory.renew(leases(jobs), lease)
        assert sorted([await memory.rescue([QUEUE]) for _ in range(10)]) == [*[0] * 9, 3]
        assert ids(await memory.fetch([QUEUE], 3, lease)) == ids(jobs)


async def test_what_was_due_first_is_fetched_first_whatever_its_state(memory: MemoryDriver, clock: StoreClock) -> None:
    (retried,) = await pushed_and_fetched(memory, 1)
    sooner, same, later = new_job(delay=4), new_job(delay=5), new_job(delay=6)
    await memory.retry([Retry(retried.lease, 5)])
    await memory.push([later, same, sooner])
    available = new_job()
    clock.seconds += 60
    await memory.push([available])
    await memory.stage([QUEUE])
    assert ids(await memory.fetch([QUEUE], 10, 60)) == ids([available, sooner, retried, same, later])


async def test_the_oldest_waits_since_it_became_available(memory: MemoryDriver, clock: StoreClock) -> None:
    await memory.push([new_job(delay=10)])
    clock.seconds += 13
    await memory.stage([QUEUE])
    assert (await memory.stats(QUEUE)).oldest_seconds == pytest.approx(3)


async def test_a_failure_is_dated_by_the_store(memory: MemoryDriver, clock: StoreClock) -> None:
    await failed(memory, 1)
    clock.seconds += 3600
    await failed(memory, 1)
    newest, oldest = await memory.failures.rows()
    assert newest.failed_at - oldest.failed_at == timedelta(hours=1)
    assert newest.connection == "tests"
    assert await memory.failures.prune(newest.failed_at) == 1


async def test_leases_that_ended_are_forgotten_when_their_time_is_over(memory: MemoryDriver, clock: StoreClock) -> None:
    for _ in range(10):
        await memory.push(new_jobs(10))
        fetched = await memory.fetch([QUEUE], 10, 15)
        await memory.renew(leases(fetched), 15)
        await memory.complete(leases(fetched))
        clock.seconds += 15
        await memory.rescue([QUEUE])
    assert memory._queue(QUEUE)._leases == []


async def test_a_unique_key_is_taken_for_its_seconds(memory: MemoryDriver, clock: StoreClock) -> None:
    first, second, third = (new_job(unique_key="reading-81", unique_for=10) for _ in range(3))
    await memory.push([first])
    clock.seconds += 9.999
    assert await memory.push([second]) == {second.job_id: first.job_id}
    clock.seconds += 0.001
    assert await memory.push([second]) == {}
    clock.seconds += 9.999
    assert await memory.push([third]) == {third.job_id: second.job_id}


async def test_unique_keys_are_forgotten_when_their_time_is_over(memory: MemoryDriver, clock: StoreClock) -> None:
    for number in range(10):
        await memory.push([new_job(unique_key=f"reading-{number}", unique_for=10)])
        clock.seconds += 5
    assert len(memory._queue(QUEUE)._unique) == len(memory._queue(QUEUE)._windows) == 2


async def test_a_job_whose_turn_has_come_waits_for_the_rest_of_its_own_delay(
    memory: MemoryDriver, clock: StoreClock
) -> None:
    line = [new_job(ordering_key="pump-7"), *(new_job(ordering_key="pump-7", delay=delay) for delay in (10, 12))]
    await memory.push(line)
    clock.seconds += 4
    await memory.complete(leases(await memory.fetch([QUEUE], 10, LONG)))
    assert await memory.stage([QUEUE]) == pytest.approx(6)
    clock.seconds += 9
    assert await memory.stage([QUEUE]) is None
    assert (await memory.stats(QUEUE)).oldest_seconds == pytest.approx(3)
    clock.seconds += 1
    await memory.complete(leases(await memory.fetch([QUEUE], 10, LONG)))
    assert states(await memory.stats(QUEUE)) == {"available": 1}
    assert (await memory.stats(QUEUE)).oldest_seconds == 0


async def test_of_ordering_keys_whose_jobs_have_gone_nothing_is_left(memory: MemoryDriver) -> None:
    for end in ("complete", "fail", "complete"):
        await memory.push([new_job(ordering_key=end)])
        await VERBS[end](memory, leases(await memory.fetch([QUEUE], 10, LONG)))
    await memory.push([new_job(ordering_key="cleared")])
    await memory.clear(QUEUE)
    assert memory._queue(QUEUE)._waiting == {}
