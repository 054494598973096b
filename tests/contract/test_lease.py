"""Leases: renewed by their owner, and rescued once when they have run out, not before."""

from __future__ import annotations

import asyncio

from core.queue.driver import Driver
from core.queue.state import FetchedJob
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
    run_out,
    states,
)


async def test_pitfall_19_a_job_just_fetched_is_not_rescued(driver: Driver, other: Driver) -> None:
    jobs = new_jobs(200)
    await driver.push(jobs)
    fetched: list[FetchedJob] = []

    async def fetch() -> None:
        while batch := await driver.fetch([QUEUE], 2, LONG):
            fetched.extend(batch)
            await asyncio.sleep(0)

    fetching = asyncio.gather(*(fetch() for _ in range(5)))
    rescues = 0
    while not fetching.done():
        rescues += sum(await asyncio.gather(*(other.rescue([QUEUE]) for _ in range(3))))
        await asyncio.sleep(0)
    await fetching
    assert rescues == 0
    assert sorted(ids(fetched)) == sorted(ids(jobs))


async def test_a_lease_that_ran_out_is_rescued(driver: Driver) -> None:
    (first,) = await pushed_and_fetched(driver, 1, lease=SHORT)
    await rescued(driver, 1)
    assert states(await driver.stats(QUEUE)) == {"available": 1}
    (second,) = await driver.fetch([QUEUE], 1, LONG)
    assert (second.job_id, second.payload, second.attempts) == (first.job_id, first.payload, 2)
    assert second.token != first.token


async def test_a_patient_rescue_takes_what_has_lost_its_owner_at_the_second_look(driver: Driver, other: Driver) -> None:
    assert await driver.rescue([QUEUE], patiently=True) == 0
    fetched = await pushed_and_fetched(other, 1, lease=SHORT)
    await run_out(other, SHORT)
    assert await driver.rescue([QUEUE], patiently=True) == 0
    assert states(await driver.stats(QUEUE)) == {"executing": 1}
    assert await driver.rescue([QUEUE], patiently=True) == 1
    assert ids(await driver.fetch([QUEUE], 1, LONG)) == ids(fetched)


async def test_an_owner_that_renews_between_two_looks_keeps_its_job(driver: Driver, other: Driver) -> None:
    fetched = await pushed_and_fetched(other, 1, lease=SHORT)
    await run_out(other, SHORT)
    assert await driver.rescue([QUEUE], patiently=True) == 0
    assert await other.renew(leases(fetched), LONG) == set()
    assert await driver.rescue([QUEUE], patiently=True) == 0
    assert await other.complete(leases(fetched)) == set()


async def test_many_rescuers_rescue_a_job_once(driver: Driver, other: Driver) -> None:
    fetched = await pushed_and_fetched(driver, 200, lease=SHORT)
    await run_out(driver, SHORT)
    rescues = await asyncio.gather(*(each.rescue([QUEUE]) for each in (driver, other) * 10))
    assert sum(rescues) == 200
    assert states(await driver.stats(QUEUE)) == {"available": 200}
    assert ids(await driver.fetch([QUEUE], 500, LONG)) == ids(fetched)


async def test_rescued_jobs_go_ahead_of_the_others(driver: Driver) -> None:
    jobs = new_jobs(4)
    await driver.push(jobs)
    await driver.fetch([QUEUE], 2, SHORT)
    await rescued(driver, 2)
    assert ids(await driver.fetch([QUEUE], 4, LONG)) == ids(jobs)


async def test_a_rescue_is_for_the_queues_named(driver: Driver) -> None:
    await pushed_and_fetched(driver, 1, lease=SHORT)
    await run_out(driver, SHORT)
    assert await driver.rescue(["elsewhere"]) == 0
    assert await driver.rescue(["elsewhere", QUEUE]) == 1


async def test_a_rescue_takes_none_but_those_that_ran_out(driver: Driver) -> None:
    kept = await pushed_and_fetched(driver, 3, lease=LONG)
    lost = await pushed_and_fetched(driver, 2, lease=SHORT)
    await driver.push([new_job(), new_job(delay=LONG)])
    await rescued(driver, 2)
    assert states(await driver.stats(QUEUE)) == {"executing": 3, "available": 3, "scheduled": 1}
    assert ids(await driver.fetch([QUEUE], 2, LONG)) == ids(lost)
    assert await driver.complete(leases(kept)) == set()


async def test_a_renewed_lease_is_not_rescued(driver: Driver, other: Driver) -> None:
    kept, lost = await pushed_and_fetched(driver, 2, lease=2 * SHORT)
    assert await other.renew([kept.lease], LONG) == set()
    await rescued(driver, 1)
    await run_out(driver, 2 * SHORT)
    assert await driver.rescue([QUEUE]) == 0
    assert await driver.complete(leases([kept, lost])) == {lost.job_id}


async def test_a_lease_may_be_renewed_again_and_again(driver: Driver) -> None:
    (job,) = await pushed_and_fetched(driver, 1, lease=LONG)
    for _ in range(5):
        assert await driver.renew([job.lease], LONG) == set()
    assert await driver.rescue([QUEUE]) == 0
    assert states(await driver.stats(QUEUE)) == {"executing": 1}


async def test_a_renewed_lease_runs_out_as_well(driver: Driver) -> None:
    (job,) = await pushed_and_fetched(driver, 1, lease=LONG)
    await driver.renew([job.lease], SHORT)
    await rescued(driver, 1)
    assert await driver.renew([job.lease], LONG) == {job.job_id}


async def test_renewing_touches_nothing_else(driver: Driver) -> None:
    (first,) = await pushed_and_fetched(driver, 1, lease=SHORT)
    for _ in range(3):
        await driver.renew([first.lease], SHORT)
    await rescued(driver, 1)
    (second,) = await driver.fetch([QUEUE], 1, LONG)
    assert (second.payload, second.attempts) == (first.payload, 2)


async def test_pitfall_17_renewing_does_not_bring_back_a_finished_job(driver: Driver, other: Driver) -> None:
    fetched = await pushed_and_fetched(driver, 100)
    parts = [leases(fetched[start : start + 10]) for start in range(0, 100, 10)]
    renewals = [other.renew(part, SHORT) for part in parts for _ in range(3)]
    stale = await asyncio.gather(*(driver.complete(part) for part in parts), *renewals)
    assert stale[:10] == [set()] * 10
    await run_out(driver, SHORT)
    assert await driver.rescue([QUEUE]) == 0
    assert states(await driver.stats(QUEUE)) == {}
    assert await driver.size(QUEUE) == 0
    assert await driver.fetch([QUEUE], 100, LONG) == []


async def test_a_rescued_queue_serves_many_fetchers_once_each(driver: Driver, other: Driver) -> None:
    await pushed_and_fetched(driver, 60, lease=SHORT)
    await run_out(driver, SHORT)

    async def rescue_and_fetch(mine: Driver) -> list[FetchedJob]:
        await mine.rescue([QUEUE])
        return await mine.fetch([QUEUE], 5, LONG)

    parts = await asyncio.gather(*(rescue_and_fetch(each) for each in (driver, other) * 10))
    fetched = [job for part in parts for job in part] + await driver.fetch([QUEUE], 100, LONG)
    assert len(fetched) == len(set(ids(fetched))) == 60
    assert {job.attempts for job in fetched} == {2}
