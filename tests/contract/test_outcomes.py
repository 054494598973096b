"""The ends of a try, told by the lease's owner; and told twice, where the first answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core.queue.driver import Driver
from core.queue.state import Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    VERBS,
    failed,
    failure,
    ids,
    leases,
    new_jobs,
    pushed_and_fetched,
    staged,
    states,
    states_after,
)


@pytest.mark.parametrize("verb", VERBS)
async def test_the_owner_of_a_lease_is_obeyed(driver: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 3)
    assert await VERBS[verb](driver, leases(fetched)) == set()
    assert states(await driver.stats(QUEUE)) == states_after(verb, 3)


@pytest.mark.parametrize("verb", VERBS)
async def test_only_the_jobs_named_are_touched(driver: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 3)
    assert await VERBS[verb](driver, [fetched[1].lease]) == set()
    others = states(await driver.stats(QUEUE))
    assert await driver.complete(leases([fetched[0], fetched[2]])) == set()
    assert others["executing"] == (3 if verb == "renew" else 2)
    assert states(await driver.stats(QUEUE)) == states_after(verb, 1)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_batch_may_be_of_many_queues(driver: Driver, verb: str) -> None:
    await driver.push([*new_jobs(2, "a"), *new_jobs(2, "b")])
    fetched = await driver.fetch(["a", "b"], 4, LONG)
    assert await VERBS[verb](driver, leases(fetched)) == set()
    for queue in ("a", "b"):
        assert states(await driver.stats(queue)) == states_after(verb, 2)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_batch_of_two_thousand(driver: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 1000) + await pushed_and_fetched(driver, 1000)
    assert await VERBS[verb](driver, leases(fetched)) == set()
    assert states(await driver.stats(QUEUE)) == states_after(verb, 2000)


@pytest.mark.parametrize("verb", VERBS)
async def test_an_empty_batch_changes_nothing(driver: Driver, verb: str) -> None:
    await pushed_and_fetched(driver, 1)
    assert await VERBS[verb](driver, []) == set()
    await driver.push([])
    assert await driver.retry_failed([]) == 0
    assert await driver.rescue([]) == 0
    assert states(await driver.stats(QUEUE)) == {"executing": 1}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "renew"])
async def test_a_repetition_changes_nothing_more(driver: Driver, other: Driver, verb: str) -> None:
    fetched = await pushed_and_fetched(driver, 3)
    await VERBS[verb](driver, leases(fetched))
    assert await VERBS[verb](other, leases(fetched)) == set(ids(fetched))
    assert states(await driver.stats(QUEUE)) == states_after(verb, 3)


async def test_a_repeated_release_takes_one_try_back(driver: Driver) -> None:
    await driver.push(new_jobs(1))
    (first,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.retry([Retry(first.lease, 0)])
    await staged(driver, 1)
    (second,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.release([second.lease])
    await driver.release([second.lease])
    (third,) = await driver.fetch([QUEUE], 1, LONG)
    assert third.attempts == 2


async def _retry(driver: Driver) -> None:
    await driver.retry([Retry(lease, LONG) for lease in leases(await driver.fetch([QUEUE], 1, LONG))])


async def _release(driver: Driver) -> None:
    await driver.release(leases(await driver.fetch([QUEUE], 1, LONG)))


async def _fail(driver: Driver) -> None:
    fetched = await driver.fetch([QUEUE], 1, LONG)
    await driver.fail([(lease, failure(lease)) for lease in leases(fetched)])


async def _retry_failed(driver: Driver) -> None:
    await driver.retry_failed((await driver.failures.rows(limit=1))[:1])


async def _watched(driver: Driver, work: Awaitable[None], total: Callable[[], Awaitable[int]]) -> list[int]:
    """What an onlooker counts while the work goes on."""
    working = asyncio.ensure_future(work)
    seen = [await total()]
    while not working.done():
        seen.append(await total())
        await asyncio.sleep(0)
    await working
    return seen


async def _repeatedly(driver: Driver, step: Callable[[Driver], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await step(driver)
        await asyncio.sleep(0)


@pytest.mark.parametrize("step", [_retry, _release])
async def test_pitfall_25_nobody_ever_sees_a_job_missing_while_it_is_put_back(
    driver: Driver, other: Driver, step: Callable[[Driver], Awaitable[None]]
) -> None:
    await driver.push(new_jobs(30))
    seen = await _watched(driver, _repeatedly(driver, step, 30), lambda: other.size(QUEUE))
    assert set(seen) == {30}


async def test_pitfall_23_nobody_ever_sees_a_job_neither_queued_nor_failed(driver: Driver, other: Driver) -> None:
    await driver.push(new_jobs(30))

    async def total() -> int:
        # In this order, a job that moves between the two looks is seen twice, and never not at all.
        queued = await other.size(QUEUE)
        return queued + (await other.stats(QUEUE)).failed

    seen = await _watched(driver, _repeatedly(driver, _fail, 30), total)
    assert min(seen) >= 30
    assert states(await driver.stats(QUEUE)) == {"failed": 30}


async def test_nobody_ever_sees_a_failed_job_missing_while_it_is_put_back(driver: Driver, other: Driver) -> None:
    await failed(driver, 20)

    async def total() -> int:
        rows = len(await other.failures.rows())
        return rows + await other.size(QUEUE)

    seen = await _watched(driver, _repeatedly(driver, _retry_failed, 20), total)
    assert min(seen) >= 20
    assert states(await driver.stats(QUEUE)) == {"available": 20}
