"""What is scheduled or to be retried becomes available when it is due: once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from core.queue.driver import Driver
from core.queue.state import FetchedJob, Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    eventually,
    ids,
    leases,
    new_job,
    new_jobs,
    pushed_and_fetched,
    run_out,
    staged,
    states,
)


async def test_a_delayed_job_is_fetched_once_it_is_due(driver: Driver) -> None:
    job = new_job(delay=SHORT)
    await driver.push([job])
    await staged(driver, 1)
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    assert (fetched.job_id, fetched.attempts) == (job.job_id, 1)


async def test_a_retried_job_is_fetched_again_once_it_is_due(driver: Driver) -> None:
    (first,) = await pushed_and_fetched(driver, 1)
    await driver.retry([Retry(first.lease, SHORT)])
    await staged(driver, 1)
    (second,) = await driver.fetch([QUEUE], 1, LONG)
    assert (second.job_id, second.payload, second.attempts) == (first.job_id, first.payload, 2)
    assert second.token != first.token


async def test_what_is_not_due_is_not_staged(driver: Driver) -> None:
    (fetched,) = await pushed_and_fetched(driver, 1)
    await driver.retry([Retry(fetched.lease, LONG)])
    await driver.push([new_job(delay=LONG)])
    await driver.stage([QUEUE])
    assert states(await driver.stats(QUEUE)) == {"scheduled": 1, "retryable": 1}
    assert await driver.fetch([QUEUE], 10, LONG) == []


async def test_stage_tells_the_seconds_until_the_next_is_due(driver: Driver) -> None:
    (fetched,) = await pushed_and_fetched(driver, 1, queue="b")
    await driver.retry([Retry(fetched.lease, 30)])
    await driver.push([new_job("a", delay=40), new_job("a", delay=50), new_job("other", delay=20)])
    assert 25 < (await driver.stage(["a", "b"]) or 0) <= 30
    assert 35 < (await driver.stage(["a"]) or 0) <= 40


async def test_stage_tells_none_where_nothing_waits(driver: Driver) -> None:
    assert await driver.stage([QUEUE]) is None
    await pushed_and_fetched(driver, 1)
    await driver.push([new_job()])
    assert await driver.stage([QUEUE]) is None
    assert await driver.stage([]) is None


async def _scheduled(driver: Driver, count: int) -> list[str]:
    jobs = new_jobs(count, delay=SHORT)
    await driver.push(jobs)
    return ids(jobs)


async def _retryable(driver: Driver, count: int) -> list[str]:
    fetched = await pushed_and_fetched(driver, count)
    await driver.retry([Retry(lease, SHORT) for lease in leases(fetched)])
    return ids(fetched)


@pytest.mark.parametrize("waiting", [_scheduled, _retryable])
async def test_pitfall_15_many_stagers_make_a_job_available_once(
    driver: Driver, other: Driver, waiting: Callable[[Driver, int], asyncio.Future[list[str]]]
) -> None:
    expected = await waiting(driver, 200)
    fetched: list[FetchedJob] = []

    async def stage_and_fetch(mine: Driver) -> None:
        await mine.stage([QUEUE])
        fetched.extend(await mine.fetch([QUEUE], 7, LONG))

    async def all_fetched() -> bool:
        assert await driver.size(QUEUE) == 200
        await asyncio.gather(*(stage_and_fetch(each) for each in (driver, other) * 10))
        return len(fetched) >= 200

    await eventually(all_fetched)
    await driver.stage([QUEUE])
    fetched += await driver.fetch([QUEUE], 10, LONG)
    assert sorted(ids(fetched)) == sorted(expected)
    assert states(await driver.stats(QUEUE)) == {"executing": 200}


async def test_what_is_scheduled_and_what_is_retried_become_available_in_the_order_in_which_they_are_due(
    driver: Driver,
) -> None:
    expected = []
    for number, fetched in enumerate(await pushed_and_fetched(driver, 3)):
        delay = SHORT * (1 + number / 5)  # each is told later than the one before it, and due later by yet more
        await driver.retry([Retry(fetched.lease, delay)])
        await driver.push([job := new_job(delay=delay + SHORT / 10)])
        expected += [fetched.job_id, job.job_id]
    await run_out(driver, 2 * SHORT)
    await staged(driver, 6)
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == expected
