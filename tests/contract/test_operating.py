"""What operators ask of queues, and clearing them."""

from __future__ import annotations

from core.queue.driver import Driver
from core.queue.state import Failure, QueueStats, Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    eventually,
    failed,
    ids,
    leases,
    new_job,
    new_jobs,
    pushed_and_fetched,
    states,
)


async def _one_of_each(driver: Driver, queue: str = QUEUE) -> None:
    """1 failed, 2 retryable, 3 executing, 4 scheduled, 5 available."""
    await failed(driver, 1, queue)
    await driver.retry([Retry(job.lease, LONG) for job in await pushed_and_fetched(driver, 2, queue=queue)])
    await pushed_and_fetched(driver, 3, queue=queue)
    await driver.push(new_jobs(4, queue, delay=LONG))
    await driver.push(new_jobs(5, queue))


async def test_stats_count_every_state(driver: Driver) -> None:
    await _one_of_each(driver)
    await _one_of_each(driver, "elsewhere")
    stats = await driver.stats(QUEUE)
    assert stats.queue == QUEUE
    assert states(stats) == {"available": 5, "scheduled": 4, "executing": 3, "retryable": 2, "failed": 1}
    assert await driver.size(QUEUE) == 14


async def test_an_unknown_queue_holds_nothing(driver: Driver) -> None:
    assert await driver.stats("nobody's") == QueueStats("nobody's")
    assert await driver.size("nobody's") == 0
    assert await driver.clear("nobody's") == 0
    assert await driver.rescue(["nobody's"]) == 0
    assert await driver.queues() == []


async def test_idle_is_where_nothing_is_available_or_executing(driver: Driver) -> None:
    async def is_idle() -> bool:
        return await driver.is_idle([QUEUE, "elsewhere"])

    await driver.push(new_jobs(1, delay=LONG))
    await failed(driver, 1)
    assert await is_idle()
    await driver.push(new_jobs(1, "elsewhere"))
    assert not await is_idle()
    (fetched,) = await driver.fetch(["elsewhere"], 1, LONG)
    assert not await is_idle()
    await driver.retry([Retry(fetched.lease, LONG)])
    assert await is_idle()


async def test_failed_rows_of_another_connection_are_not_counted(driver: Driver) -> None:
    await driver.failures.record("elsewhere", [Failure("x", QUEUE, "", b"{}", "", 1)])
    assert await driver.stats(QUEUE) == QueueStats(QUEUE)
    assert await driver.queues() == []


async def test_oldest_seconds_grow_while_a_job_waits(driver: Driver) -> None:
    await driver.push([new_job()])

    async def has_aged() -> bool:
        return (await driver.stats(QUEUE)).oldest_seconds >= 2 * SHORT

    await eventually(has_aged)
    await driver.push([new_job()])
    assert 2 * SHORT <= (await driver.stats(QUEUE)).oldest_seconds < LONG
    await driver.fetch([QUEUE], 1, LONG)
    assert (await driver.stats(QUEUE)).oldest_seconds < 60


async def test_nothing_waits_where_nothing_is_available(driver: Driver) -> None:
    await driver.push([new_job(delay=LONG)])
    await pushed_and_fetched(driver, 1)
    await failed(driver, 1)
    assert (await driver.stats(QUEUE)).oldest_seconds == 0


async def test_queues_are_those_that_hold_a_job_in_any_state(driver: Driver) -> None:
    await driver.push([new_job("available"), new_job("scheduled", delay=LONG)])
    await pushed_and_fetched(driver, 1, queue="executing")
    (job,) = await pushed_and_fetched(driver, 1, queue="retryable")
    await driver.retry([Retry(job.lease, LONG)])
    await failed(driver, 1, "failed")
    (done,) = await pushed_and_fetched(driver, 1, queue="completed")
    await driver.complete([done.lease])
    assert await driver.queues() == ["available", "executing", "failed", "retryable", "scheduled"]


async def test_queues_of_which_only_rows_of_failed_jobs_are_left_are_told(driver: Driver) -> None:
    await driver.push([new_job("available")])
    await driver.failures.record(driver.connection, [Failure("x", "failed", "", b"{}", "", 1)])
    assert await driver.queues() == ["available", "failed"]


async def test_queues_of_another_process_are_known(driver: Driver, other: Driver) -> None:
    assert await driver.queues() == []
    await other.push([new_job("b"), new_job("a")])
    assert await driver.queues() == ["a", "b"]


async def test_clearing_leaves_what_is_executing_and_what_failed(driver: Driver) -> None:
    await _one_of_each(driver)
    await driver.push([new_job("elsewhere")])
    assert await driver.clear(QUEUE) == 11
    assert states(await driver.stats(QUEUE)) == {"executing": 3, "failed": 1}
    assert await driver.size(QUEUE) == 3
    assert await driver.size("elsewhere") == 1
    assert await driver.clear(QUEUE) == 0
    assert await driver.fetch([QUEUE], 10, LONG) == []


async def test_a_job_that_was_executing_while_its_queue_was_cleared_goes_on(driver: Driver) -> None:
    first, second, third = await pushed_and_fetched(driver, 3)
    await driver.clear(QUEUE)
    assert await driver.complete([first.lease]) == set()
    assert await driver.release([second.lease]) == set()
    assert await driver.retry([Retry(third.lease, LONG)]) == set()
    assert states(await driver.stats(QUEUE)) == {"available": 1, "retryable": 1}


async def test_a_cleared_job_may_be_pushed_again(driver: Driver) -> None:
    jobs = [new_job(), new_job(delay=LONG)]
    await driver.push(jobs)
    await driver.clear(QUEUE)
    await driver.push(jobs)
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 1}


async def test_a_cleared_jobs_tries_are_forgotten(driver: Driver) -> None:
    (job,) = await pushed_and_fetched(driver, 1)
    await driver.retry([Retry(job.lease, LONG)])
    await driver.clear(QUEUE)
    await driver.push([new_job(job_id=job.job_id)])
    (again,) = await driver.fetch([QUEUE], 1, LONG)
    assert again.attempts == 1


async def test_thousands_are_cleared_at_once(driver: Driver) -> None:
    await driver.push(new_jobs(2500))
    await driver.push(new_jobs(1500, delay=LONG))
    assert await driver.clear(QUEUE) == 4000
    assert await driver.queues() == []


async def test_a_completed_jobs_id_is_free_again(driver: Driver) -> None:
    fetched = await pushed_and_fetched(driver, 2)
    await driver.complete(leases(fetched))
    await driver.push([new_job(job_id=fetched[0].job_id)])
    assert ids(await driver.fetch([QUEUE], 2, LONG)) == [fetched[0].job_id]
