"""Jobs with a unique key: of those pushed within the window of the first, none but the first is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core.queue.driver import Driver
from core.queue.state import NewJob, Retry
from tests.contract.conftest import Place
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    eventually,
    failure,
    ids,
    leases,
    new_job,
    states,
)

KEY = "reading-81"

Step = Callable[[Driver], Awaitable[None]]


def _job(unique_key: str = KEY, *, delay: float = 0.0, unique_for: float = LONG) -> NewJob:
    return new_job(delay=delay, unique_key=unique_key, unique_for=unique_for)


async def _fetched(driver: Driver) -> list[str]:
    """All that may be fetched."""
    return ids(await driver.fetch([QUEUE], 1000, LONG))


async def test_a_second_job_of_a_key_is_left_out_and_the_first_stands_for_it(driver: Driver, other: Driver) -> None:
    first, second, third = _job(), _job(), _job()
    assert await driver.push([first]) == {}
    assert await driver.push([second]) == {second.job_id: first.job_id}
    assert await other.push([third]) == {third.job_id: first.job_id}
    assert await driver.size(QUEUE) == 1
    assert await _fetched(driver) == [first.job_id]


async def test_what_was_stored_is_not_in_the_answer(driver: Driver) -> None:
    assert await driver.push([]) == {}
    assert await driver.push([new_job(), _job("a"), new_job(ordering_key="k"), _job("b", delay=LONG)]) == {}
    assert states(await driver.stats(QUEUE)) == {"available": 3, "scheduled": 1}


async def test_of_a_batch_the_first_of_each_key_is_stored(driver: Driver) -> None:
    a, b, again, plain, once_more = _job("a"), _job("b"), _job("a"), new_job(), _job("a")
    left_out = await driver.push([a, b, again, plain, once_more])
    assert left_out == {again.job_id: a.job_id, once_more.job_id: a.job_id}
    assert await _fetched(driver) == ids([a, b, plain])


async def test_a_batch_stores_what_it_has_beside_those_left_out(driver: Driver) -> None:
    first = _job()
    await driver.push([first])
    before, second, after = new_job(), _job(), _job("another")
    assert await driver.push([before, second, after]) == {second.job_id: first.job_id}
    assert await _fetched(driver) == ids([first, before, after])


async def test_of_a_large_batch_the_first_of_each_key_is_stored(driver: Driver) -> None:
    keys = [f"reading-{number}" for number in range(400)]
    jobs = [_job(key) for _ in range(3) for key in keys]
    left_out = await driver.push(jobs)
    assert left_out == {job.job_id: jobs[number % 400].job_id for number, job in enumerate(jobs) if number >= 400}
    assert await _fetched(driver) == ids(jobs[:400])


# ── as long as the window is not over, whatever has become of the first ──────────────────────────────


async def _executing(driver: Driver) -> None:
    await driver.fetch([QUEUE], 1, LONG)


async def _retryable(driver: Driver) -> None:
    await driver.retry([Retry(lease, LONG) for lease in leases(await driver.fetch([QUEUE], 1, LONG))])


async def _completed(driver: Driver) -> None:
    await driver.complete(leases(await driver.fetch([QUEUE], 1, LONG)))


async def _failed(driver: Driver) -> None:
    await VERBS["fail"](driver, leases(await driver.fetch([QUEUE], 1, LONG)))


async def _forgotten(driver: Driver) -> None:
    await _failed(driver)
    await driver.failures.flush()


async def _cleared(driver: Driver) -> None:
    await driver.clear(QUEUE)


@pytest.mark.parametrize("become", [_executing, _retryable, _completed, _failed, _forgotten, _cleared])
async def test_whatever_has_become_of_the_first_it_stands_for_the_second(driver: Driver, become: Step) -> None:
    first, second = _job(), _job()
    await driver.push([first])
    await become(driver)
    before = await driver.stats(QUEUE)
    assert await driver.push([second]) == {second.job_id: first.job_id}
    assert states(await driver.stats(QUEUE)) == states(before)


async def test_a_push_told_again_when_its_job_is_done_stores_nothing(driver: Driver) -> None:
    """Its answer was lost, and a worker was quicker than the repetition."""
    job = _job()
    await driver.push([job])
    await _completed(driver)
    assert await driver.push([job]) == {}
    assert await driver.size(QUEUE) == 0


async def test_when_the_window_is_over_the_next_is_stored_and_opens_its_own(driver: Driver) -> None:
    await driver.push([_job(unique_for=SHORT)])
    stored: list[NewJob] = []

    async def is_over() -> bool:
        """Those left out meanwhile do not prolong it."""
        job = _job(unique_for=LONG)
        if await driver.push([job]) == {}:
            stored.append(job)
        return bool(stored)

    await eventually(is_over)
    assert await driver.size(QUEUE) == 2
    late = _job()
    assert await driver.push([late]) == {late.job_id: stored[0].job_id}


async def test_a_window_is_as_long_as_the_first_said(driver: Driver) -> None:
    first = _job(unique_for=LONG)
    await driver.push([first])
    await driver.push([_job(unique_for=SHORT)])
    await driver.push([new_job("canary", unique_key=KEY, unique_for=SHORT)])

    async def canary_is_over() -> bool:
        return await driver.push([new_job("canary", unique_key=KEY, unique_for=SHORT)]) == {}

    await eventually(canary_is_over)
    late = _job()
    assert await driver.push([late]) == {late.job_id: first.job_id}


# ── a push that is repeated ──────────────────────────────────────────────────────────────────────────


async def test_a_job_that_is_pushed_again_is_no_duplicate_of_itself(driver: Driver, other: Driver) -> None:
    job = _job()
    assert await driver.push([job]) == {}
    assert await other.push([job]) == {}
    assert await driver.push([job, job]) == {}
    assert await _fetched(driver) == [job.job_id]


async def test_a_repeated_push_has_the_same_answer(driver: Driver, other: Driver) -> None:
    jobs = [_job("a"), _job("b"), _job("a"), new_job(), _job("b")]
    left_out = await driver.push(jobs)
    assert left_out == {jobs[2].job_id: jobs[0].job_id, jobs[4].job_id: jobs[1].job_id}
    assert await other.push(jobs) == left_out
    assert await driver.push([jobs[4]]) == {jobs[4].job_id: jobs[1].job_id}
    assert await _fetched(driver) == ids([jobs[0], jobs[1], jobs[3]])


async def test_a_batch_of_which_some_are_stored_adds_what_was_missing(driver: Driver, other: Driver) -> None:
    jobs = [_job(f"reading-{number}") for number in range(50)]
    await driver.push(jobs[10:40])
    again = _job("reading-45")
    assert await other.push([*jobs, again]) == {again.job_id: jobs[45].job_id}
    assert sorted(await _fetched(driver)) == sorted(ids(jobs))


async def test_a_stored_job_that_is_pushed_again_is_left_as_it_is_though_its_key_is_anothers_by_now(
    driver: Driver,
) -> None:
    job = _job(unique_for=SHORT)
    await driver.push([job])

    async def is_over() -> bool:
        return await driver.push([_job(unique_for=LONG)]) == {}

    await eventually(is_over)
    assert await driver.push([job]) == {}
    assert await driver.size(QUEUE) == 2


async def test_a_failed_job_is_put_back_whatever_its_key(driver: Driver) -> None:
    first = _job()
    await driver.push([first])
    (job,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.fail([(job.lease, failure(job.lease, payload=job.payload))])
    assert await driver.retry_failed(await driver.failures.rows()) == 1
    second = _job()
    assert await driver.push([second]) == {second.job_id: first.job_id}
    assert await _fetched(driver) == [first.job_id]


async def test_a_push_that_is_repeated_when_its_window_is_over_does_not_open_it_again(
    place: Place, driver: Driver, other: Driver
) -> None:
    job, second = _job(unique_for=LONG), _job()
    await driver.push([job])
    await place.let_pass(2 * int(LONG))
    assert await driver.push([job, second]) == {}
    assert await other.push([job]) == {}
    third = _job()
    assert await driver.push([third]) == {third.job_id: second.job_id}
    await place.let_pass(2 * int(LONG))
    assert await driver.push([second]) == {}
    assert await driver.push([_job()]) == {}
    assert await driver.size(QUEUE) == 3


# ── with what else a job may have ────────────────────────────────────────────────────────────────────


async def test_a_delayed_job_stands_for_those_after_it(driver: Driver) -> None:
    first, second = _job(delay=LONG), _job()
    await driver.push([first])
    assert await driver.push([second]) == {second.job_id: first.job_id}
    assert states(await driver.stats(QUEUE)) == {"scheduled": 1}


async def test_a_job_that_was_left_out_has_no_turn_of_its_ordering_key(driver: Driver) -> None:
    first, second = (new_job(ordering_key="pump-7", unique_key=KEY) for _ in range(2))
    third = new_job(ordering_key="pump-7", unique_key="another")
    assert await driver.push([first, second, third]) == {second.job_id: first.job_id}
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 1}
    (job,) = await driver.fetch([QUEUE], 10, LONG)
    assert job.job_id == first.job_id
    await driver.complete([job.lease])
    assert await _fetched(driver) == [third.job_id]


async def test_a_job_that_was_left_out_holds_up_nobody(driver: Driver) -> None:
    await driver.push([_job()])
    await driver.push([new_job(ordering_key="pump-7", unique_key=KEY), following := new_job(ordering_key="pump-7")])
    assert following.job_id in await _fetched(driver)


async def test_the_same_key_on_two_queues_is_two_keys(driver: Driver) -> None:
    here, there = _job(), new_job("elsewhere", unique_key=KEY)
    assert await driver.push([here, there]) == {}
    again = new_job("elsewhere", unique_key=KEY)
    assert await driver.push([again]) == {again.job_id: there.job_id}


async def test_an_ordering_key_is_no_unique_key(driver: Driver) -> None:
    first = new_job(ordering_key=KEY)
    assert await driver.push([first, _job(), new_job(ordering_key=KEY)]) == {}


# ── several at once ──────────────────────────────────────────────────────────────────────────────────


async def test_of_jobs_that_are_pushed_at_once_one_is_stored(driver: Driver, other: Driver) -> None:
    for number in range(10):
        jobs = [_job(f"reading-{number}") for _ in range(10)]
        answers = await asyncio.gather(*((driver, other)[place % 2].push([job]) for place, job in enumerate(jobs)))
        (stored,) = [job.job_id for job, answer in zip(jobs, answers, strict=True) if not answer]
        left_out = [job_id for job_id in ids(jobs) if job_id != stored]
        assert {key: value for answer in answers for key, value in answer.items()} == dict.fromkeys(left_out, stored)
        assert await _fetched(driver) == [stored]


async def test_batches_of_the_same_keys_in_different_order_do_not_block_each_other(
    driver: Driver, other: Driver
) -> None:
    keys = [f"reading-{number}" for number in range(40)]
    batches = [[_job(key) for key in keys[:: (1, -1)[number % 2]]] for number in range(6)]
    answers = await asyncio.gather(*((driver, other)[number % 2].push(jobs) for number, jobs in enumerate(batches)))
    stored = await _fetched(driver)
    assert len(stored) == len(keys)
    left_out = {key: value for answer in answers for key, value in answer.items()}
    assert sorted([*stored, *left_out]) == sorted(job.job_id for jobs in batches for job in jobs)
    assert set(left_out.values()) <= set(stored)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "key",
    [
        "two words",
        "日本語-\U0001f680",
        "{curly}",
        "}{",
        "a:b:c",
        "line\nbreak\r\n\ttab",
        "'\"`;--%s?$1",
        "*[a-z]?\\",
        "k" * 255,
        "é" * 255,
    ],
    ids=lambda key: repr(key[:12]),
)
async def test_a_key_may_be_any_text(driver: Driver, key: str) -> None:
    first, second = _job(key), _job(key)
    await driver.push([first])
    assert await driver.push([second]) == {second.job_id: first.job_id}


@pytest.mark.parametrize(
    ("one", "another"),
    [
        *[("pump", "Pump"), ("pump", "pümp"), ("pump", "pump "), ("é", "e\u0301")],
        *[("a", "aa"), ("a", "a:b"), ("a", "{a}"), ("%", "%25"), ("1", "01")],
        ("k" * 254 + "1", "k" * 254 + "2"),
    ],
)
async def test_keys_that_look_alike_are_keys_of_their_own(driver: Driver, one: str, another: str) -> None:
    assert await driver.push([_job(one), _job(another)]) == {}
    assert await driver.size(QUEUE) == 2
