"""An idle worker hears of a push; a push that came while it was not listening wakes it just the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.queue.driver import Driver, WakeUp
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    failed,
    leases,
    new_job,
    new_line,
    pushed_and_fetched,
    rescued,
)


@pytest.fixture
async def wake_up(driver: Driver) -> AsyncIterator[WakeUp]:
    wake_up = driver.wake_up([QUEUE, "texts"])
    await _quiet(wake_up)
    yield wake_up
    await wake_up.close()


async def _quiet(wake_up: WakeUp) -> None:
    """It may tell too often, of its own beginning for instance; but not for ever where nothing is available."""
    while await wake_up.wait(0.1):
        pass


async def test_a_push_wakes_who_waits(driver: Driver, wake_up: WakeUp) -> None:
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await asyncio.sleep(0)
    await driver.push([new_job()])
    assert await asyncio.wait_for(waiting, 5)


async def test_a_push_of_another_process_wakes_who_waits(other: Driver, wake_up: WakeUp) -> None:
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await asyncio.sleep(0)
    await other.push([new_job()])
    assert await asyncio.wait_for(waiting, 5)


async def test_each_of_its_queues_wakes(driver: Driver, wake_up: WakeUp) -> None:
    for queue in (QUEUE, "texts"):
        await driver.push([new_job(queue)])
        assert await asyncio.wait_for(wake_up.wait(LONG), 5)
        await driver.fetch([queue], 1, LONG)
        await _quiet(wake_up)


async def test_a_push_before_the_wait_is_not_missed(driver: Driver, other: Driver, wake_up: WakeUp) -> None:
    for each in (driver, other):
        await each.push([new_job()])
        await driver.fetch([QUEUE], 1, LONG)
        assert await asyncio.wait_for(wake_up.wait(LONG), 5)
        await _quiet(wake_up)


async def test_each_push_to_an_empty_queue_wakes_anew(driver: Driver, other: Driver, wake_up: WakeUp) -> None:
    for _ in range(5):
        await other.push([new_job()])
        assert await asyncio.wait_for(wake_up.wait(LONG), 5)
        assert len(await driver.fetch([QUEUE], 1, LONG)) == 1


async def test_a_job_put_back_by_hand_wakes(driver: Driver, other: Driver, wake_up: WakeUp) -> None:
    await failed(driver, 1)
    await _quiet(wake_up)
    await other.retry_failed(await other.failures.rows())
    assert await asyncio.wait_for(wake_up.wait(LONG), 5)


async def test_a_job_handed_back_by_another_process_wakes(other: Driver, wake_up: WakeUp) -> None:
    held = leases(await pushed_and_fetched(other, 1))
    await _quiet(wake_up)
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await asyncio.sleep(0)
    await other.release(held)
    assert await asyncio.wait_for(waiting, 5)


async def test_a_job_rescued_by_another_process_wakes(other: Driver, wake_up: WakeUp) -> None:
    await pushed_and_fetched(other, 1, lease=SHORT)
    await _quiet(wake_up)
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await rescued(other, 1)
    assert await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("verb", ["complete", "fail"])
async def test_a_job_that_gets_its_turn_from_another_process_wakes(other: Driver, wake_up: WakeUp, verb: str) -> None:
    await other.push(new_line(2, "pump-7"))
    held = leases(await other.fetch([QUEUE], 2, LONG))
    await _quiet(wake_up)
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await asyncio.sleep(0)
    await VERBS[verb](other, held)
    assert await asyncio.wait_for(waiting, 5)


async def test_without_a_push_the_wait_ends_with_its_timeout(wake_up: WakeUp) -> None:
    """At the latest when its own beginning is over, which may take a while on a busy machine."""
    await asyncio.wait_for(_quiet(wake_up), 30)


async def test_many_hear_of_one_push(driver: Driver) -> None:
    listeners = [driver.wake_up([QUEUE]) for _ in range(3)]
    for listener in listeners:
        await _quiet(listener)
    waiting = [asyncio.create_task(listener.wait(LONG)) for listener in listeners]
    await asyncio.sleep(0)
    await driver.push([new_job()])
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [True] * 3
    for listener in listeners:
        await listener.close()


async def test_a_wait_that_is_cancelled_loses_no_push(driver: Driver, wake_up: WakeUp) -> None:
    waiting = asyncio.create_task(wake_up.wait(LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await driver.push([new_job()])
    assert await asyncio.wait_for(wake_up.wait(LONG), 5)


async def test_closing_twice_is_closing_once(driver: Driver) -> None:
    wake_up = driver.wake_up([QUEUE])
    await wake_up.close()
    await wake_up.close()
    await driver.push([new_job()])
