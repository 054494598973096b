"""Only the owner of the current lease may report on a job; who else tries changes nothing, and is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from core.queue.driver import Driver
from core.queue.job_id import new_job_id
from core.queue.state import Lease, QueueStats
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    failure,
    ids,
    leases,
    pushed_and_fetched,
    rescued,
    run_out,
    states,
    states_after,
)


async def _rescued(driver: Driver, queue: str) -> list[Lease]:
    fetched = await pushed_and_fetched(driver, 2, queue=queue, lease=SHORT)
    await rescued(driver, 2, queue)
    return leases(fetched)


async def _rescued_and_fetched_again(driver: Driver, queue: str) -> list[Lease]:
    stale = await _rescued(driver, queue)
    await driver.fetch([queue], 2, LONG)
    return stale


async def _completed(driver: Driver, queue: str) -> list[Lease]:
    fetched = await pushed_and_fetched(driver, 2, queue=queue)
    await driver.complete(leases(fetched))
    return leases(fetched)


async def _released(driver: Driver, queue: str) -> list[Lease]:
    fetched = await pushed_and_fetched(driver, 2, queue=queue)
    await driver.release(leases(fetched))
    return leases(fetched)


async def _made_up(driver: Driver, queue: str) -> list[Lease]:
    fetched = await pushed_and_fetched(driver, 2, queue=queue)
    return [replace(lease, token="made-up") for lease in leases(fetched)]


async def _without_a_token(driver: Driver, queue: str) -> list[Lease]:
    return [replace(lease, token="") for lease in await _released(driver, queue)]


async def _of_another_fetch(driver: Driver, queue: str) -> list[Lease]:
    (first,) = await pushed_and_fetched(driver, 1, queue=queue)
    (second,) = await pushed_and_fetched(driver, 1, queue=queue)
    return [replace(first.lease, token=second.token), replace(second.lease, token=first.token)]


async def _never_stored(driver: Driver, queue: str) -> list[Lease]:
    await pushed_and_fetched(driver, 2, queue=queue)
    return [Lease(new_job_id(), queue, "1"), Lease(new_job_id(), "nobody's", "1")]


STALE: dict[str, Callable[[Driver, str], Awaitable[list[Lease]]]] = {
    "rescued": _rescued,
    "rescued-and-fetched-again": _rescued_and_fetched_again,
    "completed": _completed,
    "released": _released,
    "made-up": _made_up,
    "without-a-token": _without_a_token,
    "of-another-fetch": _of_another_fetch,
    "never-stored": _never_stored,
}


def _still(stats: QueueStats) -> QueueStats:
    return replace(stats, oldest_seconds=0.0)


@pytest.mark.parametrize("situation", STALE)
async def test_a_stale_lease_changes_nothing_and_is_told(driver: Driver, other: Driver, situation: str) -> None:
    for verb, tell in VERBS.items():
        queue = f"{verb} when {situation}"
        stale = await STALE[situation](driver, queue)
        before = _still(await driver.stats(queue))
        assert await tell(other, stale) == set(ids(stale))
        assert _still(await driver.stats(queue)) == before
        assert await driver.failures.rows() == []


@pytest.mark.parametrize("verb", VERBS)
async def test_the_new_owner_is_not_disturbed(driver: Driver, verb: str) -> None:
    (old,) = await pushed_and_fetched(driver, 1, lease=SHORT)
    await rescued(driver, 1)
    (new,) = await driver.fetch([QUEUE], 1, LONG)
    await VERBS[verb](driver, [old.lease])
    assert await driver.rescue([QUEUE]) == 0
    assert await VERBS[verb](driver, [new.lease]) == set()
    assert states(await driver.stats(QUEUE)) == states_after(verb, 1)


@pytest.mark.parametrize("verb", VERBS)
async def test_of_a_mixed_batch_only_the_current_leases_count(driver: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 6)
    stale = [fetched[1], fetched[2], fetched[5]]
    await driver.complete(leases(stale))
    assert await VERBS[verb](driver, leases(fetched)) == set(ids(stale))
    assert states(await driver.stats(QUEUE)) == states_after(verb, 3)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_lease_that_ran_out_counts_until_the_job_is_rescued(driver: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 2, lease=SHORT)
    await run_out(driver, SHORT)
    assert await VERBS[verb](driver, leases(fetched)) == set()
    assert states(await driver.stats(QUEUE)) == states_after(verb, 2)
    assert await driver.rescue([QUEUE]) == 0


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("verb", VERBS)
async def test_of_two_leases_of_one_job_in_a_batch_the_old_one_is_told(driver: Driver, verb: str, order: int) -> None:
    """A worker that was frozen for longer than its lease may fetch the job again, end both tries and report them."""
    (old,) = await pushed_and_fetched(driver, 1, lease=SHORT)
    await rescued(driver, 1)
    (new,) = await driver.fetch([QUEUE], 1, LONG)
    assert await VERBS[verb](driver, [old.lease, new.lease][::order]) == {old.job_id}
    assert states(await driver.stats(QUEUE)) == states_after(verb, 1)


@pytest.mark.parametrize("order", [1, -1])
async def test_of_two_failures_of_one_job_in_a_batch_that_of_the_current_lease_is_kept(
    driver: Driver, order: int
) -> None:
    (old,) = await pushed_and_fetched(driver, 1, lease=SHORT)
    await rescued(driver, 1)
    (new,) = await driver.fetch([QUEUE], 1, LONG)
    pairs = [(job.lease, failure(job.lease, attempts=job.attempts)) for job in (old, new)][::order]
    assert await driver.fail(pairs) == {old.job_id}
    assert [row.attempts for row in await driver.failures.rows()] == [2]


async def test_pitfall_18_a_job_that_went_to_another_is_finished_by_that_one_alone(driver: Driver) -> None:
    (first,) = await pushed_and_fetched(driver, 1, lease=SHORT)
    await rescued(driver, 1)
    (second,) = await driver.fetch([QUEUE], 1, LONG)
    assert await driver.renew([first.lease], LONG) == {first.job_id}
    assert await driver.complete([first.lease]) == {first.job_id}
    assert states(await driver.stats(QUEUE)) == {"executing": 1}
    assert await driver.complete([second.lease]) == set()
    assert await driver.size(QUEUE) == 0


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "renew"])
async def test_of_many_who_report_on_one_lease_at_once_one_is_obeyed(driver: Driver, other: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 5)
    reports = (VERBS[verb](each, leases(fetched)) for each in (driver, other) * 5)
    stale = await asyncio.gather(*reports)
    assert sum(5 - len(each) for each in stale) == 5
    assert states(await driver.stats(QUEUE)) == states_after(verb, 5)


async def test_of_different_outcomes_told_at_once_one_counts(driver: Driver, other: Driver) -> None:
    for _ in range(5):
        (job,) = await pushed_and_fetched(driver, 1)
        verbs = [VERBS[verb](each, [job.lease]) for each in (driver, other) for verb in ("complete", "fail", "retry")]
        assert sum(not stale for stale in await asyncio.gather(*verbs)) == 1
        stats = await driver.stats(QUEUE)
        assert sum(states(stats).values()) <= 1
        await driver.clear(QUEUE)
        await driver.failures.flush()
