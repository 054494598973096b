"""A process that stops in the middle of a verb, wherever that is, loses no job and doubles none.

Each verb is cut short after ever more turns of the event loop, in a queue of its own each time, then done
again, as the next process would.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Iterator

import pytest

from core.queue.driver import Driver
from core.queue.state import Lease, Retry
from tests.contract.jobs import (
    LONG,
    SHORT,
    VERBS,
    eventually,
    failed,
    ids,
    leases,
    new_job,
    new_jobs,
    new_line,
    pushed_and_fetched,
    run_out,
    staged,
    states,
    states_after,
)

# A connection to SQLite that is cut short while SQLAlchemy opens it is closed by the garbage collection, of which
# Python 3.13 and later warn.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <sqlite3\.Connection:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True, scope="module")
def _collected_here() -> Iterator[None]:
    yield
    gc.collect()


TURNS = {f"cut after {turns}": turns for turns in (0, 1, 3, 10, 30, 100, 300)}
"""Turns of the event loop, by queue."""


async def _cut_short(work: Awaitable[object], turns: int) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_push_cut_short_is_all_or_nothing(driver: Driver, other: Driver) -> None:
    for queue, turns in TURNS.items():
        jobs = new_jobs(20, queue)
        await _cut_short(driver.push(jobs), turns)
        assert await other.size(queue) in (0, 20)
        await other.push(jobs)
        assert ids(await other.fetch([queue], 50, LONG)) == ids(jobs)


async def test_a_push_of_jobs_with_keys_cut_short_can_be_told_again(driver: Driver, other: Driver) -> None:
    for queue, turns in TURNS.items():
        line = [new_job(queue, ordering_key="pump-7", unique_key=f"reading-{number}") for number in range(20)]
        again = new_job(queue, unique_key="reading-7")
        await _cut_short(driver.push(line), turns)
        assert await other.push([*line, again]) == {again.job_id: line[7].job_id}
        assert states(await other.stats(queue)) == {"available": 1, "scheduled": 19}
        for job in line:
            (fetched,) = await other.fetch([queue], 50, LONG)
            assert fetched.job_id == job.job_id
            await other.complete([fetched.lease])


@pytest.mark.parametrize("verb", ["complete", "fail"])
async def test_a_turn_whose_handing_on_was_cut_short_is_handed_on_once(
    driver: Driver, other: Driver, verb: str
) -> None:
    for queue, turns in TURNS.items():
        line = new_line(3, "pump-7", queue)
        await driver.push(line)
        held = leases(await driver.fetch([queue], 10, LONG))
        await _cut_short(VERBS[verb](driver, held), turns)
        await VERBS[verb](other, held)
        await other.rescue([queue])
        assert ids(await other.fetch([queue], 10, LONG)) == [line[1].job_id]
        await VERBS[verb](other, held)
        assert await other.fetch([queue], 10, LONG) == []


async def test_pitfall_15_a_fetch_cut_short_leaves_its_jobs_to_the_rescuer(driver: Driver, other: Driver) -> None:
    jobs = {queue: new_jobs(20, queue) for queue in TURNS}
    for queue, turns in TURNS.items():
        await driver.push(jobs[queue])
        await _cut_short(driver.fetch([queue], 10, SHORT), turns)

    async def all_available() -> bool:
        await other.rescue([*TURNS])
        return all([states(await other.stats(queue)) == {"available": 20} for queue in TURNS])

    await eventually(all_available)
    for queue in TURNS:
        fetched = await other.fetch([queue], 50, LONG)
        assert ids(fetched) == ids(jobs[queue])
        assert {job.attempts for job in fetched} <= {1, 2}


@pytest.mark.parametrize("verb", VERBS)
async def test_an_outcome_cut_short_can_be_told_again(driver: Driver, other: Driver, verb: str) -> None:
    for queue, turns in TURNS.items():
        held = leases(await pushed_and_fetched(driver, 5, queue=queue))
        await _cut_short(VERBS[verb](driver, held), turns)
        await VERBS[verb](other, held)
        await other.rescue([queue])
        assert states(await other.stats(queue)) == states_after(verb, 5)
        assert await other.size(queue) == (0 if verb in ("complete", "fail") else 5)
        assert len(await other.failures.rows(queue=queue)) == (5 if verb == "fail" else 0)


async def test_a_failure_cut_short_and_never_told_again_is_not_lost(driver: Driver, other: Driver) -> None:
    held: dict[str, list[Lease]] = {}
    for queue, turns in TURNS.items():
        held[queue] = leases(await pushed_and_fetched(driver, 5, queue=queue, lease=SHORT))
        await _cut_short(VERBS["fail"](driver, held[queue]), turns)
    await run_out(other, SHORT)
    await other.rescue([*TURNS])
    for queue in TURNS:
        given_up = ids(await other.failures.rows(queue=queue))
        back = ids(await other.fetch([queue], 10, LONG))
        assert sorted(given_up + back) == sorted(lease.job_id for lease in held[queue])


async def test_pitfall_15_staging_cut_short_stages_each_job_once(driver: Driver, other: Driver) -> None:
    for queue in TURNS:
        held = leases(await pushed_and_fetched(driver, 10, queue=queue))
        await driver.retry([Retry(lease, SHORT) for lease in held])
        await driver.push(new_jobs(10, queue, delay=SHORT))
    await run_out(driver, SHORT)
    for queue, turns in TURNS.items():
        await _cut_short(driver.stage([queue]), turns)
        await staged(other, 20, queue)
        fetched = await other.fetch([queue], 50, LONG)
        assert len(fetched) == len(set(ids(fetched))) == 20


async def test_pitfall_15_a_rescue_cut_short_rescues_each_job_once(driver: Driver, other: Driver) -> None:
    fetched = {queue: await pushed_and_fetched(driver, 20, queue=queue, lease=SHORT) for queue in TURNS}
    await run_out(driver, SHORT)
    for queue, turns in TURNS.items():
        await _cut_short(driver.rescue([queue]), turns)
        await _until_all_are_available(other, queue, 20)
        assert states(await other.stats(queue)) == {"available": 20}
        assert ids(await other.fetch([queue], 50, LONG)) == ids(fetched[queue])


async def _until_all_are_available(driver: Driver, queue: str, count: int) -> None:
    """A server holds the locks of a connection that was cut off until it has noticed, and a rescue skips them."""

    async def probe() -> bool:
        await driver.rescue([queue])
        return (await driver.stats(queue)).available == count

    await eventually(probe)


async def test_putting_back_cut_short_is_finished_by_the_next(driver: Driver, other: Driver) -> None:
    for queue, turns in TURNS.items():
        expected = await failed(driver, 5, queue)
        rows = await driver.failures.rows(queue=queue)
        await _cut_short(driver.retry_failed(rows), turns)
        await other.retry_failed(rows)
        assert states(await other.stats(queue)) == {"available": 5}
        assert await other.failures.rows(queue=queue) == []
        assert sorted(ids(await other.fetch([queue], 10, LONG))) == sorted(expected)


async def test_clearing_cut_short_can_be_done_again(driver: Driver, other: Driver) -> None:
    for queue, turns in TURNS.items():
        await pushed_and_fetched(driver, 3, queue=queue)
        await driver.push([*new_jobs(10, queue), *new_jobs(10, queue, delay=LONG)])
        await _cut_short(driver.clear(queue), turns)
        await other.clear(queue)
        assert states(await other.stats(queue)) == {"executing": 3}
        assert await other.size(queue) == 3
