"""Out of the store: each job to one fetcher, under a token of its own, with the try counted."""

from __future__ import annotations

import asyncio
from typing import Any

from core.queue.driver import Driver
from core.queue.state import FetchedJob, Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    ids,
    leases,
    new_job,
    new_jobs,
    pushed_and_fetched,
    rescued,
    staged,
    states,
)


async def _fetch_all(driver: Driver, limit: int) -> list[FetchedJob]:
    fetched: list[FetchedJob] = []
    while batch := await driver.fetch([QUEUE], limit, LONG):
        fetched += batch
    return fetched


async def test_two_hundred_fetchers_get_each_job_once(driver: Driver, other: Driver) -> None:
    jobs = new_jobs(500)
    await driver.push(jobs)
    fetchers = (_fetch_all(each, 3) for each in (driver, other) * 100)
    fetched = [job for batch in await asyncio.gather(*fetchers) for job in batch]
    assert sorted(ids(fetched)) == sorted(ids(jobs))
    assert {job.attempts for job in fetched} == {1}
    assert states(await driver.stats(QUEUE)) == {"executing": 500}


async def test_fetchers_and_pushers_at_once_miss_nothing(driver: Driver, other: Driver) -> None:
    batches = [new_jobs(10) for _ in range(20)]
    pushing = asyncio.gather(*(driver.push(jobs) for jobs in batches))
    fetched: list[FetchedJob] = []
    while not pushing.done():
        fetched += await other.fetch([QUEUE], 7, LONG)
        await asyncio.sleep(0)
    fetched += await _fetch_all(other, 50)
    assert sorted(ids(fetched)) == sorted(job_id for jobs in batches for job_id in ids(jobs))


async def test_fetchers_at_the_same_moment_hide_no_jobs_from_each_other(driver: Driver, other: Driver) -> None:
    await driver.push(new_jobs(200))
    parts = await asyncio.gather(*(each.fetch([QUEUE], 10, LONG) for each in (driver, other) * 5))
    assert [len(part) for part in parts] == [10] * 10


async def test_pitfall_14_tokens_never_repeat(driver: Driver, other: Driver) -> None:
    await driver.push(new_jobs(100))
    seen: list[tuple[str, str]] = []
    for _ in range(5):
        parts = await asyncio.gather(*(each.fetch([QUEUE], 10, LONG) for each in (driver, other) * 5))
        fetched = [job for part in parts for job in part]
        seen += [(job.job_id, job.token) for job in fetched]
        await driver.release(leases(fetched))
    assert len(seen) == len(set(seen)) > 10


async def test_pitfall_20_a_try_counts_when_it_is_fetched(driver: Driver) -> None:
    await driver.push([new_job()])
    for attempts in (1, 2, 3):
        (fetched,) = await driver.fetch([QUEUE], 1, SHORT)
        assert fetched.attempts == attempts
        await rescued(driver, 1)


async def test_a_retry_keeps_the_count(driver: Driver) -> None:
    await driver.push([new_job()])
    for attempts in (1, 2, 3):
        (fetched,) = await driver.fetch([QUEUE], 1, LONG)
        assert fetched.attempts == attempts
        await driver.retry([Retry(fetched.lease, 0)])
        await staged(driver, 1)


async def test_a_release_takes_the_try_back(driver: Driver) -> None:
    await driver.push([new_job()])
    for _ in range(3):
        (fetched,) = await driver.fetch([QUEUE], 1, LONG)
        assert fetched.attempts == 1
        assert await driver.release([fetched.lease]) == set()


async def test_a_release_takes_only_its_own_try_back(driver: Driver) -> None:
    await pushed_and_fetched(driver, 1, lease=SHORT)
    await rescued(driver, 1)
    (second,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.release([second.lease])
    (third,) = await driver.fetch([QUEUE], 1, LONG)
    assert third.attempts == 2


async def test_a_queue_that_nobody_pushed_to_is_empty(driver: Driver) -> None:
    assert await driver.fetch(["nobody's", "neither"], 10, LONG) == []


async def test_fetching_from_no_queue_fetches_nothing(driver: Driver) -> None:
    await driver.push([new_job()])
    assert await driver.fetch([], 10, LONG) == []


async def test_jobs_fetched_before_an_error_reach_their_worker(driver: Driver) -> None:
    """They are leased by then: without a worker that knows of them, each would wait for its lease to run out."""
    unusable: Any = object()  # as the name of a queue stands for whatever error nobody foresaw
    jobs = new_jobs(2)
    await driver.push(jobs)
    assert ids(await driver.fetch([QUEUE, unusable, "texts"], 10, LONG)) == ids(jobs)
