"""No verb asks more of its store because more jobs are queued, scheduled or in flight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from core.queue.driver import Driver
from core.queue.job_id import new_job_id
from core.queue.state import Lease, NewJob, Retry
from tests.contract.conftest import Place
from tests.contract.cost import sql_statements
from tests.contract.jobs import LONG, QUEUE, VERBS, leases, new_job, new_jobs, new_line, pushed_and_fetched

MANY = 40
"""Jobs; more than it takes for a driver to write them in another way than a few, where it has one."""


def _unique(count: int, *, delay: float = 0.0) -> list[NewJob]:
    return [new_job(delay=delay, unique_key=new_job_id()) for _ in range(count)]


Work = Callable[[Driver, list[Lease]], Awaitable[object]]

FROM_WORKERS: dict[str, Work] = {
    **VERBS,
    "push": lambda driver, _: driver.push(new_jobs(10)),
    "push many": lambda driver, _: driver.push(new_jobs(MANY)),
    "push with ordering keys": lambda driver, _: driver.push([*new_line(5, "crowd"), *new_line(5, "another")]),
    "push with unique keys": lambda driver, _: driver.push(_unique(10)),
    "push of those left out": lambda driver, _: driver.push([new_job(unique_key="twice") for _ in range(10)]),
    "fetch": lambda driver, _: driver.fetch([QUEUE], 10, LONG),
    "stage": lambda driver, _: driver.stage([QUEUE]),
    "rescue": lambda driver, _: driver.rescue([QUEUE]),
}

FROM_OPERATORS: dict[str, Work] = {
    "size": lambda driver, _: driver.size(QUEUE),
    "stats": lambda driver, _: driver.stats(QUEUE),
    "queues": lambda driver, _: driver.queues(),
}


async def _crowd(driver: Driver, count: int) -> None:
    """That many jobs of each kind."""
    await driver.retry([Retry(job.lease, LONG) for job in await pushed_and_fetched(driver, count)])
    await pushed_and_fetched(driver, count)
    await driver.push([*new_jobs(count), *new_jobs(count, delay=LONG)])
    await driver.push([new_job(delay=LONG, ordering_key="crowd"), *new_line(count, "crowd")])
    await driver.push(_unique(count, delay=LONG))


async def _costs(place: Place, driver: Driver, work: Work, counts: tuple[int, ...]) -> list[Counter[str]]:
    """What the work asks on a queue that grows; the first time, which also prepares, is not counted."""
    if place.cost is None:
        pytest.skip("jobs in memory ask no server")
    costs = []
    for count in (1, *counts):
        held = leases(await pushed_and_fetched(driver, 10))
        await _crowd(driver, count)
        async with place.cost(driver) as cost:
            await work(driver, held)
        costs.append(cost)
    return costs[1:]


@pytest.mark.parametrize("verb", FROM_WORKERS)
async def test_pitfall_16_work_per_job_does_not_grow_with_the_number_of_jobs(
    place: Place, driver: Driver, verb: str
) -> None:
    few, many = await _costs(place, driver, FROM_WORKERS[verb], (10, 300))
    assert few.total() > 0
    assert many == few


@pytest.mark.parametrize("verb", VERBS)
async def test_what_ends_a_try_of_a_job_with_a_key_does_not_grow_with_the_line_behind_it(
    place: Place, driver: Driver, verb: str
) -> None:
    if place.cost is None:
        pytest.skip("jobs in memory ask no server")
    costs = []
    for length in (2, 5, 150):
        await driver.push([job for key in "abcdefghij" for job in new_line(length, key, f"of {length}")])
        held = leases(await driver.fetch([f"of {length}"], 10, LONG))
        async with place.cost(driver) as cost:
            assert await VERBS[verb](driver, held) == set()
        costs.append(cost)
    assert costs[1].total() > 0
    assert costs[2] == costs[1]


@pytest.mark.parametrize("count", [10, MANY])
async def test_what_writes_jobs_is_counted(place: Place, driver: Driver, count: int) -> None:
    if place.cost is not sql_statements:
        pytest.skip("Redis tells itself what it ran")
    async with place.cost(driver) as cost:
        await driver.push(new_jobs(count))
    assert any("jobs" in statement for statement in cost)


@pytest.mark.parametrize("question", FROM_OPERATORS)
async def test_pitfall_22_a_question_loads_no_jobs(place: Place, driver: Driver, question: str) -> None:
    few, many = await _costs(place, driver, FROM_OPERATORS[question], (10, 300))
    assert few.total() > 0
    assert many == few
    assert not any("payload" in text for text in many)
