"""First in, first out, and the first queue first."""

from __future__ import annotations

import asyncio

from core.queue.driver import Driver
from core.queue.state import NewJob, Retry
from tests.contract.jobs import LONG, QUEUE, SHORT, ids, leases, new_job, new_jobs, staged


async def test_pitfall_13_a_queue_is_first_in_first_out(driver: Driver) -> None:
    jobs = new_jobs(10)
    for job in jobs:
        await driver.push([job])
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == ids(jobs)


async def test_a_batch_keeps_its_order(driver: Driver) -> None:
    jobs = new_jobs(50)
    await driver.push(jobs)
    assert ids(await driver.fetch([QUEUE], 50, LONG)) == ids(jobs)


async def test_order_holds_across_batches_and_fetches(driver: Driver) -> None:
    jobs = new_jobs(30)
    await driver.push(jobs[:10])
    first = await driver.fetch([QUEUE], 5, LONG)
    await driver.push(jobs[10:])
    rest = await driver.fetch([QUEUE], 100, LONG)
    assert ids(first) + ids(rest) == ids(jobs)


async def test_a_bulk_of_five_thousand_keeps_its_order(driver: Driver) -> None:
    jobs = new_jobs(5000)
    await driver.push(jobs)
    fetched = [job for _ in range(5) for job in await driver.fetch([QUEUE], 1000, LONG)]
    assert ids(fetched) == ids(jobs)
    assert await driver.complete(leases(fetched)) == set()
    assert await driver.size(QUEUE) == 0


async def test_each_of_many_pushers_at_once_keeps_its_order(driver: Driver, other: Driver) -> None:
    batches = [new_jobs(10) for _ in range(20)]

    async def push(number: int, jobs: list[NewJob]) -> None:
        for job in jobs:
            await (driver, other)[number % 2].push([job])

    await asyncio.gather(*(push(number, jobs) for number, jobs in enumerate(batches)))
    fetched = ids(await driver.fetch([QUEUE], 200, LONG))
    assert len(fetched) == 200
    for jobs in batches:
        assert [job_id for job_id in fetched if job_id in set(ids(jobs))] == ids(jobs)


async def test_the_first_queue_is_emptied_before_the_second(driver: Driver) -> None:
    low, high = new_jobs(3, "low"), new_jobs(2, "high")
    await driver.push(low)
    await driver.push(high)
    fetched = await driver.fetch(["high", "low"], 4, LONG)
    assert ids(fetched) == ids(high) + ids(low[:2])
    assert [job.queue for job in fetched] == ["high", "high", "low", "low"]


async def test_a_batch_may_be_for_many_queues(driver: Driver) -> None:
    one, two, three = new_job("a"), new_job("b"), new_job("a")
    await driver.push([one, two, three])
    assert ids(await driver.fetch(["a"], 10, LONG)) == ids([one, three])
    assert ids(await driver.fetch(["b"], 10, LONG)) == ids([two])


async def test_a_fetch_takes_no_more_than_its_limit(driver: Driver) -> None:
    await driver.push(new_jobs(3))
    assert await driver.fetch([QUEUE], 0, LONG) == []
    assert len(await driver.fetch([QUEUE], 2, LONG)) == 2
    assert len(await driver.fetch([QUEUE], 2, LONG)) == 1
    assert await driver.fetch([QUEUE], 2, LONG) == []


async def test_released_jobs_go_ahead_of_the_others(driver: Driver) -> None:
    jobs = new_jobs(4)
    await driver.push(jobs)
    await driver.release(leases(await driver.fetch([QUEUE], 2, LONG)))
    assert ids(await driver.fetch([QUEUE], 4, LONG)) == ids(jobs)


async def test_a_retried_job_goes_behind_what_is_available(driver: Driver) -> None:
    jobs = new_jobs(3)
    await driver.push(jobs)
    (first,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.retry([Retry(first.lease, SHORT)])
    await staged(driver, 3)
    assert ids(await driver.fetch([QUEUE], 3, LONG)) == ids([*jobs[1:], jobs[0]])


async def test_what_is_due_first_is_fetched_first(driver: Driver) -> None:
    later, sooner = new_job(delay=2 * SHORT), new_job(delay=SHORT)
    await driver.push([later, sooner])
    await staged(driver, 2)
    assert ids(await driver.fetch([QUEUE], 2, LONG)) == ids([sooner, later])


async def test_jobs_due_at_the_same_moment_keep_their_order(driver: Driver) -> None:
    jobs = new_jobs(20, delay=SHORT)
    await driver.push(jobs)
    await staged(driver, 20)
    assert ids(await driver.fetch([QUEUE], 20, LONG)) == ids(jobs)
