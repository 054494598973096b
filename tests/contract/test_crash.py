"""A process that stops in the middle of a verb, wherever that is, loses no job and doubles none.

Each verb is cut short after ever more turns of the event loop, then done again, as the next process would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from core.queue.driver import Driver
from core.queue.state import Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    eventually,
    failed,
    ids,
    leases,
    new_jobs,
    pushed_and_fetched,
    run_out,
    staged,
    states,
    states_after,
)

TURNS = (0, 1, 3, 10, 30, 100, 300)


async def _cut_short(work: Awaitable[object], turns: int) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("turns", TURNS)
async def test_a_push_cut_short_is_all_or_nothing(driver: Driver, other: Driver, turns: int) -> None:
    jobs = new_jobs(20)
    await _cut_short(driver.push(jobs), turns)
    assert await other.size(QUEUE) in (0, 20)
    await other.push(jobs)
    assert ids(await other.fetch([QUEUE], 50, LONG)) == ids(jobs)


@pytest.mark.parametrize("turns", TURNS)
async def test_a_fetch_cut_short_leaves_its_jobs_to_the_rescuer(
    driver: Driver, other: Driver, turns: int
) -> None:
    jobs = new_jobs(20)
    await driver.push(jobs)
    await _cut_short(driver.fetch([QUEUE], 10, SHORT), turns)

    async def all_available() -> bool:
        await other.rescue([QUEUE])
        return states(await other.stats(QUEUE)) == {"available": 20}

    await eventually(all_available)
    fetched = await other.fetch([QUEUE], 50, LONG)
    assert ids(fetched) == ids(jobs)
    assert {job.attempts for job in fetched} <= {1, 2}


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("verb", VERBS)
async def test_an_outcome_cut_short_can_be_told_again(
    driver: Driver, other: Driver, verb: str, turns: int
) -> None:
    held = leases(await pushed_and_fetched(driver, 5))
    await _cut_short(VERBS[verb](driver, held), turns)
    await VERBS[verb](other, held)
    await other.rescue([QUEUE])
    assert states(await other.stats(QUEUE)) == states_after(verb, 5)
    assert await other.size(QUEUE) == (0 if verb in ("complete", "fail") else 5)
    assert len(await other.failures.rows()) == (5 if verb == "fail" else 0)


@pytest.mark.parametrize("turns", TURNS)
async def test_a_failure_cut_short_and_never_told_again_is_not_lost(
    driver: Driver, other: Driver, turns: int
) -> None:
    held = leases(await pushed_and_fetched(driver, 5, lease=SHORT))
    await _cut_short(VERBS["fail"](driver, held), turns)
    await run_out(other, SHORT)
    await other.rescue([QUEUE])
    given_up = ids(await other.failures.rows())
    assert len(given_up) + await other.size(QUEUE) == 5
    back = ids(await other.fetch([QUEUE], 10, LONG))
    assert sorted(given_up + back) == sorted(lease.job_id for lease in held)


@pytest.mark.parametrize("turns", TURNS)
async def test_staging_cut_short_stages_each_job_once(driver: Driver, other: Driver, turns: int) -> None:
    await driver.retry([Retry(lease, SHORT) for lease in leases(await pushed_and_fetched(driver, 10))])
    await driver.push(new_jobs(10, delay=SHORT))
    await run_out(driver, SHORT)
    await _cut_short(driver.stage([QUEUE]), turns)
    await staged(other, 20)
    fetched = await other.fetch([QUEUE], 50, LONG)
    assert len(fetched) == len(set(ids(fetched))) == 20


@pytest.mark.parametrize("turns", TURNS)
async def test_a_rescue_cut_short_rescues_each_job_once(driver: Driver, other: Driver, turns: int) -> None:
    fetched = await pushed_and_fetched(driver, 20, lease=SHORT)
    await run_out(driver, SHORT)
    await _cut_short(driver.rescue([QUEUE]), turns)
    await other.rescue([QUEUE])
    assert states(await other.stats(QUEUE)) == {"available": 20}
    assert ids(await other.fetch([QUEUE], 50, LONG)) == ids(fetched)


@pytest.mark.parametrize("turns", TURNS)
async def test_putting_back_cut_short_is_finished_by_the_next(
    driver: Driver, other: Driver, turns: int
) -> None:
    expected = await failed(driver, 5)
    rows = await driver.failures.rows()
    await _cut_short(driver.retry_failed(rows), turns)
    await other.retry_failed(rows)
    assert states(await other.stats(QUEUE)) == {"available": 5}
    assert await other.failures.rows() == []
    assert sorted(ids(await other.fetch([QUEUE], 10, LONG))) == sorted(expected)


@pytest.mark.parametrize("turns", TURNS)
async def test_clearing_cut_short_can_be_done_again(driver: Driver, other: Driver, turns: int) -> None:
    await pushed_and_fetched(driver, 3)
    await driver.push([*new_jobs(10), *new_jobs(10, delay=LONG)])
    await _cut_short(driver.clear(QUEUE), turns)
    await other.clear(QUEUE)
    assert states(await other.stats(QUEUE)) == {"executing": 3}
    assert await other.size(QUEUE) == 3


async def test_a_driver_that_was_cut_short_goes_on(driver: Driver) -> None:
    for turns in TURNS * 3:
        await _cut_short(driver.fetch([QUEUE], 1, LONG), turns)
    await driver.push(new_jobs(3))
    assert len(await driver.fetch([QUEUE], 3, LONG)) == 3
