"""Jobs with an ordering key: one at a time for each key, in the order of their pushes, and nobody else waits."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from core.queue.driver import Driver
from core.queue.envelope import ordering_key_of
from core.queue.state import FetchedJob, NewJob, Retry
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    are_keys_of_their_own,
    failure,
    ids,
    leases,
    new_job,
    new_jobs,
    new_line,
    rescued,
    run_out,
    staged,
    states,
)

KEY = "pump-7"

ENDS = ["complete", "fail"]
"""The verbs after which a job is gone."""


async def _fetch(driver: Driver, queue: str = QUEUE, lease: float = LONG) -> list[FetchedJob]:
    """All that may be fetched."""
    return await driver.fetch([queue], 1000, lease)


async def _fetch_one(driver: Driver, queue: str = QUEUE, lease: float = LONG) -> FetchedJob:
    """The only one that may be fetched."""
    (job,) = await _fetch(driver, queue, lease)
    return job


async def _pushed(driver: Driver, count: int, ordering_key: str = KEY) -> list[str]:
    jobs = new_line(count, ordering_key)
    await driver.push(jobs)
    return ids(jobs)


async def _fail(driver: Driver, job: FetchedJob) -> None:
    await driver.fail([(job.lease, failure(job.lease, payload=job.payload))])


async def _worked_off(driver: Driver, queue: str = QUEUE) -> list[str]:
    """Work off the queue; the jobs in the order in which they were executed."""
    done: list[str] = []
    while fetched := await _fetch(driver, queue):
        assert await driver.complete(leases(fetched)) == set()
        done += ids(fetched)
    assert await driver.size(queue) == 0
    return done


# ── one at a time, in order ──────────────────────────────────────────────────────────────────────────


async def test_of_a_key_one_job_is_fetched_at_a_time_in_the_order_of_the_pushes(driver: Driver) -> None:
    line = await _pushed(driver, 4)
    for job_id in line:
        job = await _fetch_one(driver)
        assert (job.job_id, job.attempts) == (job_id, 1)
        assert await _fetch(driver) == []
        assert await driver.complete([job.lease]) == set()
    assert await driver.queues() == []


async def test_the_order_holds_across_pushes_of_several_processes(driver: Driver, other: Driver) -> None:
    line = new_line(6, KEY)
    for number, job in enumerate(line):
        await (driver, other)[number % 2].push([job])
    assert await _worked_off(driver) == ids(line)


async def test_jobs_of_other_keys_and_of_none_do_not_wait(driver: Driver) -> None:
    a, b, plain = new_line(3, "a"), new_line(2, "b"), new_jobs(2)
    await driver.push([a[0], a[1], b[0], plain[0], b[1], a[2], plain[1]])
    fetched = await _fetch(driver)
    assert ids(fetched) == ids([a[0], b[0], plain[0], plain[1]])
    await driver.complete([fetched[1].lease])
    job = await _fetch_one(driver)
    assert job.job_id == b[1].job_id
    await driver.complete(leases([*fetched[2:], job]))
    assert await _fetch(driver) == []


async def test_a_large_batch_of_many_keys_keeps_the_order_of_each(driver: Driver) -> None:
    lines = [new_line(3, f"device-{number}") for number in range(400)]
    rounds = [list(jobs) for jobs in zip(*lines, strict=True)]
    await driver.push([job for jobs in rounds for job in jobs])
    for jobs in rounds:
        fetched = await _fetch(driver)
        assert ids(fetched) == ids(jobs)
        assert await driver.complete(leases(fetched)) == set()
    assert await driver.size(QUEUE) == 0


async def test_a_batch_that_ends_jobs_of_many_keys_hands_on_all_their_turns_in_its_order(driver: Driver) -> None:
    lines = [new_line(2, f"device-{number}") for number in range(20)]
    await driver.push([job for line in lines for job in line])
    heads = await _fetch(driver)
    await driver.complete(leases(heads[::-1]))
    assert ids(await _fetch(driver)) == ids(line[1] for line in lines[::-1])


async def test_a_line_longer_than_any_batch_lets_one_through(driver: Driver) -> None:
    line = await _pushed(driver, 2500)
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 2499}
    for job_id in line[:3]:
        job = await _fetch_one(driver)
        assert job.job_id == job_id
        await driver.complete([job.lease])


async def test_many_pushers_of_one_key_at_once_keep_their_order_and_let_one_through(
    driver: Driver, other: Driver
) -> None:
    batches = [new_line(2, KEY) for _ in range(20)]
    await asyncio.gather(*((driver, other)[number % 2].push(jobs) for number, jobs in enumerate(batches)))
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 39}
    done = await _worked_off(driver)
    for jobs in batches:
        assert [job_id for job_id in done if job_id in ids(jobs)] == ids(jobs)


async def test_the_same_key_on_two_queues_is_two_keys(driver: Driver) -> None:
    here, there = new_line(2, KEY), new_line(2, KEY, "elsewhere")
    await driver.push([*here, *there])
    first, second = await driver.fetch([QUEUE, "elsewhere"], 10, LONG)
    assert ids([first, second]) == ids([here[0], there[0]])
    await driver.complete([second.lease])
    assert await _fetch(driver) == []
    assert (await _fetch_one(driver, "elsewhere")).job_id == there[1].job_id


# ── the turn is kept ─────────────────────────────────────────────────────────────────────────────────


async def test_a_job_that_is_to_be_retried_keeps_its_turn(driver: Driver) -> None:
    first, second = await _pushed(driver, 2)
    await driver.retry([Retry((await _fetch_one(driver)).lease, SHORT)])
    assert await _fetch(driver) == []
    await staged(driver, 1)
    job = await _fetch_one(driver)
    assert (job.job_id, job.attempts) == (first, 2)
    await driver.complete([job.lease])
    assert (await _fetch_one(driver)).job_id == second


async def test_a_job_that_was_released_keeps_its_turn(driver: Driver) -> None:
    first, second = await _pushed(driver, 2)
    await driver.release([(await _fetch_one(driver)).lease])
    job = await _fetch_one(driver)
    assert (job.job_id, job.attempts) == (first, 1)
    await driver.complete([job.lease])
    assert (await _fetch_one(driver)).job_id == second


async def test_a_job_whose_lease_ran_out_keeps_its_turn(driver: Driver) -> None:
    first, second = await _pushed(driver, 2)
    await _fetch_one(driver, lease=SHORT)
    await run_out(driver, SHORT)
    assert await _fetch(driver) == []
    await rescued(driver, 1)
    job = await _fetch_one(driver)
    assert (job.job_id, job.attempts) == (first, 2)
    await driver.complete([job.lease])
    assert (await _fetch_one(driver)).job_id == second


async def test_a_job_whose_lease_was_renewed_keeps_its_turn(driver: Driver) -> None:
    await _pushed(driver, 2)
    await driver.renew([(await _fetch_one(driver)).lease], LONG)
    assert await _fetch(driver) == []


async def test_a_job_that_is_not_due_holds_up_those_behind_it(driver: Driver) -> None:
    first, second = new_job(delay=LONG, ordering_key=KEY), new_job(ordering_key=KEY)
    await driver.push([first])
    await driver.push([second, new_job(ordering_key="another")])
    await driver.stage([QUEUE])
    assert ordering_key_of((await _fetch_one(driver)).payload) == "another"
    assert states(await driver.stats(QUEUE)) == {"executing": 1, "scheduled": 2}


async def test_a_job_that_has_become_due_goes_ahead_of_those_behind_it(driver: Driver) -> None:
    line = [new_job(delay=SHORT, ordering_key=KEY), *new_line(2, KEY)]
    await driver.push(line)
    await staged(driver, 1)
    assert await _worked_off(driver) == ids(line)


@pytest.mark.parametrize("verb", ENDS)
async def test_a_late_owner_does_not_hand_the_turn_on(driver: Driver, other: Driver, verb: str) -> None:
    first, second = await _pushed(driver, 2)
    late = await _fetch_one(driver, lease=SHORT)
    await rescued(driver, 1)
    job = await _fetch_one(other)
    assert await VERBS[verb](driver, [late.lease]) == {first}
    assert await _fetch(driver) == []
    assert await VERBS[verb](other, [job.lease]) == set()
    assert (await _fetch_one(driver)).job_id == second


@pytest.mark.parametrize("verb", ENDS)
async def test_a_late_owner_does_not_hand_the_turn_on_beside_those_who_are_not_late(driver: Driver, verb: str) -> None:
    first, _ = await _pushed(driver, 2)
    late = await _fetch_one(driver, lease=SHORT)
    await rescued(driver, 1)
    await _fetch_one(driver)
    _, following = await _pushed(driver, 2, "another")
    job = await _fetch_one(driver)
    assert await VERBS[verb](driver, [late.lease, job.lease]) == {first}
    assert (await _fetch_one(driver)).job_id == following


@pytest.mark.parametrize("verb", ENDS)
async def test_an_end_that_is_told_again_does_not_hand_the_turn_on_again(driver: Driver, verb: str) -> None:
    first, second, third = await _pushed(driver, 3)
    job = await _fetch_one(driver)
    await VERBS[verb](driver, [job.lease])
    assert await VERBS[verb](driver, [job.lease]) == {first}
    following = await _fetch_one(driver)
    assert following.job_id == second
    assert await VERBS[verb](driver, [job.lease]) == {first}
    assert await _fetch(driver) == []
    await driver.complete([following.lease])
    assert (await _fetch_one(driver)).job_id == third


@pytest.mark.parametrize("verb", ENDS)
async def test_an_end_that_a_batch_tells_twice_hands_the_turn_on_once(driver: Driver, verb: str) -> None:
    _, second, _ = await _pushed(driver, 3)
    job = await _fetch_one(driver)
    await VERBS[verb](driver, [job.lease, job.lease])
    assert (await _fetch_one(driver)).job_id == second


# ── the turn is handed on ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ENDS)
async def test_when_a_job_has_gone_the_next_becomes_available(driver: Driver, verb: str) -> None:
    line = await _pushed(driver, 3)
    await VERBS[verb](driver, [(await _fetch_one(driver)).lease])
    counted = states(await driver.stats(QUEUE))
    assert (counted["available"], counted["scheduled"]) == (1, 1)
    assert await _worked_off(driver) == line[1:]


async def test_the_next_becomes_available_behind_those_that_are_by_then(driver: Driver) -> None:
    _, second = await _pushed(driver, 2)
    job = await _fetch_one(driver)
    await driver.push(plain := new_jobs(2))
    await driver.complete([job.lease])
    await driver.push([later := new_job()])
    assert ids(await _fetch(driver)) == [*ids(plain), second, later.job_id]


async def test_the_next_is_available_since_it_has_its_turn(driver: Driver) -> None:
    await _pushed(driver, 2)
    job = await _fetch_one(driver, lease=LONG)
    await run_out(driver, 4 * SHORT)
    waited = asyncio.get_running_loop().time()
    await driver.complete([job.lease])
    oldest = (await driver.stats(QUEUE)).oldest_seconds
    assert oldest <= asyncio.get_running_loop().time() - waited + SHORT


async def test_the_next_is_scheduled_where_its_own_delay_is_not_over(driver: Driver) -> None:
    line = [new_job(ordering_key=KEY), new_job(ordering_key=KEY, delay=LONG), new_job(ordering_key=KEY)]
    await driver.push(line)
    await driver.complete([(await _fetch_one(driver)).lease])
    assert 0 < (await driver.stage([QUEUE]) or 0) <= LONG
    assert states(await driver.stats(QUEUE)) == {"scheduled": 2}
    assert await _fetch(driver) == []


async def test_the_next_becomes_available_when_its_own_delay_is_over(driver: Driver) -> None:
    line = [new_job(ordering_key=KEY), new_job(ordering_key=KEY, delay=4 * SHORT), new_job(ordering_key=KEY)]
    await driver.push(line)
    await driver.complete([(await _fetch_one(driver)).lease])
    await staged(driver, 1)
    assert await _worked_off(driver) == ids(line[1:])


async def test_a_delay_that_is_over_before_the_turn_has_come_delays_no_more(driver: Driver) -> None:
    line = [new_job(ordering_key=KEY), new_job(ordering_key=KEY, delay=SHORT)]
    await driver.push(line)
    job = await _fetch_one(driver)
    await driver.push([new_job("canary", delay=SHORT)])
    await staged(driver, 1, "canary")
    assert await driver.stage([QUEUE]) is None
    assert await _fetch(driver) == []
    await driver.complete([job.lease])
    assert (await _fetch_one(driver)).job_id == line[1].job_id


async def test_who_pushes_while_the_last_of_a_key_ends_is_not_left_waiting(driver: Driver, other: Driver) -> None:
    await driver.push([new_job(ordering_key=KEY)])
    for number in range(60):
        job = await _fetch_one(driver)
        following = new_job(ordering_key=KEY)
        await asyncio.gather(VERBS[ENDS[number % 2]](driver, [job.lease]), other.push([following]))
        assert states(await driver.stats(QUEUE)).get("available") == 1
    assert await driver.size(QUEUE) == 1


# ── a push that is repeated ──────────────────────────────────────────────────────────────────────────


async def test_a_repeated_push_changes_nothing_of_who_waits(driver: Driver, other: Driver) -> None:
    line = new_line(4, KEY)
    await driver.push(line[:2])
    job = await _fetch_one(driver)
    for _ in range(2):
        await other.push(line[::-1][2:])
    assert states(await driver.stats(QUEUE)) == {"executing": 1, "scheduled": 1}
    await driver.push(line)
    assert states(await driver.stats(QUEUE)) == {"executing": 1, "scheduled": 3}
    await driver.complete([job.lease])
    assert await _worked_off(driver) == ids(line[1:])


async def test_a_job_that_a_batch_has_twice_stands_in_line_once(driver: Driver) -> None:
    line = new_line(3, KEY)
    await driver.push([*line, line[0], line[2]])
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 2}
    assert await _worked_off(driver) == ids(line)


async def test_a_completed_job_that_is_pushed_again_stands_behind_the_others(driver: Driver) -> None:
    line = new_line(3, KEY)
    await driver.push(line)
    await driver.complete([(await _fetch_one(driver)).lease])
    await driver.push(line)
    assert await _worked_off(driver) == ids([*line[1:], line[0]])


# ── operating ────────────────────────────────────────────────────────────────────────────────────────


async def test_jobs_that_wait_for_their_turn_are_counted_as_scheduled(driver: Driver) -> None:
    await _pushed(driver, 4)
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 3}
    job = await _fetch_one(driver)
    assert states(await driver.stats(QUEUE)) == {"executing": 1, "scheduled": 3}
    await driver.retry([Retry(job.lease, LONG)])
    assert states(await driver.stats(QUEUE)) == {"retryable": 1, "scheduled": 3}
    assert await driver.size(QUEUE) == 4
    assert await driver.queues() == [QUEUE]
    assert await driver.is_idle([QUEUE])


async def test_jobs_that_wait_for_their_turn_are_no_due_ones(driver: Driver) -> None:
    """A stager would come back for them at once, for ever."""
    await _pushed(driver, 2)
    await _fetch_one(driver)
    assert await driver.stage([QUEUE]) is None
    assert await _fetch(driver) == []


async def test_clearing_deletes_those_who_wait_behind_a_job_that_is_executing(driver: Driver) -> None:
    await _pushed(driver, 3)
    job = await _fetch_one(driver)
    assert await driver.clear(QUEUE) == 2
    assert states(await driver.stats(QUEUE)) == {"executing": 1}
    assert await driver.complete([job.lease]) == set()
    assert await driver.queues() == []
    line = await _pushed(driver, 2)
    assert await _worked_off(driver) == line


async def test_what_is_pushed_after_clearing_waits_for_the_job_that_is_executing(driver: Driver) -> None:
    await _pushed(driver, 3)
    job = await _fetch_one(driver)
    await driver.clear(QUEUE)
    line = await _pushed(driver, 2)
    assert await _fetch(driver) == []
    await driver.complete([job.lease])
    assert await _worked_off(driver) == line


@pytest.mark.parametrize("head", ["available", "scheduled", "retryable"])
async def test_clearing_a_whole_line_leaves_nobody_stuck(driver: Driver, head: str) -> None:
    await driver.push([new_job(ordering_key=KEY, delay=LONG if head == "scheduled" else 0)])
    await _pushed(driver, 3)
    if head == "retryable":
        await driver.retry([Retry((await _fetch_one(driver)).lease, LONG)])
    assert await driver.clear(QUEUE) == 4
    assert await driver.queues() == []
    line = await _pushed(driver, 3)
    assert await _worked_off(driver) == line


async def test_a_cleared_line_may_be_pushed_again(driver: Driver) -> None:
    line = new_line(3, KEY)
    for _ in range(2):
        await driver.push(line)
        assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 2}
        assert await driver.clear(QUEUE) == 3
    await driver.push(line[::-1])
    assert await _worked_off(driver) == ids(line[::-1])


async def test_thousands_who_wait_are_cleared_at_once(driver: Driver) -> None:
    await driver.push([*new_line(2500, KEY), *new_line(1500, "another")])
    assert await driver.clear(QUEUE) == 4000
    assert await driver.queues() == []


async def test_who_pushes_while_the_queue_is_cleared_is_not_left_waiting(driver: Driver, other: Driver) -> None:
    for _ in range(30):
        await _pushed(driver, 3)
        following = new_job(ordering_key=KEY)
        await asyncio.gather(driver.clear(QUEUE), other.push([following]))
        assert (await _worked_off(driver))[-1:] in ([], [following.job_id])


# ── put back by hand ─────────────────────────────────────────────────────────────────────────────────


async def test_a_failed_job_that_is_put_back_stands_behind_the_others_of_its_key(driver: Driver) -> None:
    first, *others = await _pushed(driver, 3)
    await _fail(driver, await _fetch_one(driver))
    assert await driver.retry_failed(await driver.failures.rows()) == 1
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 2}
    assert await _worked_off(driver) == [*others, first]


async def test_a_failed_job_that_is_put_back_waits_for_the_one_that_is_executing(driver: Driver) -> None:
    first, second = await _pushed(driver, 2)
    await _fail(driver, await _fetch_one(driver))
    job = await _fetch_one(driver)
    assert job.job_id == second
    await driver.retry_failed(await driver.failures.rows())
    assert await _fetch(driver) == []
    await driver.complete([job.lease])
    again = await _fetch_one(driver)
    assert (again.job_id, again.attempts) == (first, 1)


async def test_a_failed_job_that_is_put_back_where_nobody_waits_is_available(driver: Driver) -> None:
    line = await _pushed(driver, 1)
    await _fail(driver, await _fetch_one(driver))
    await driver.retry_failed(await driver.failures.rows())
    assert await _worked_off(driver) == line


async def test_failed_jobs_of_one_key_that_are_put_back_run_one_at_a_time(driver: Driver) -> None:
    line = await _pushed(driver, 3)
    for _ in line:
        await _fail(driver, await _fetch_one(driver))
    assert await driver.retry_failed(await driver.failures.rows()) == 3
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 2}
    assert sorted(await _worked_off(driver)) == sorted(line)


async def test_putting_back_again_does_not_double_who_waits(driver: Driver) -> None:
    await _pushed(driver, 2)
    await _fail(driver, await _fetch_one(driver))
    rows = await driver.failures.rows()
    assert await driver.retry_failed(rows) == 1
    assert await driver.retry_failed(rows) == 0
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 1}


async def test_a_failed_job_of_another_key_or_of_none_is_put_back_without_a_wait(driver: Driver) -> None:
    await driver.push([new_job(), new_job(ordering_key="another")])
    failed = await _fetch(driver)
    for job in failed:
        await _fail(driver, job)
    await _pushed(driver, 2)
    await _fetch_one(driver)
    await driver.retry_failed(await driver.failures.rows())
    assert sorted(ids(await _fetch(driver))) == sorted(ids(failed))


# ── several at once ──────────────────────────────────────────────────────────────────────────────────


class Workers:
    """Execute jobs with keys, some at once; never two of one key at a time."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._running: set[str] = set()
        self._random = Random(7)

    async def work(self, driver: Driver, until: int) -> None:
        while len(self.done) < until:
            await driver.stage([QUEUE])
            fetched = await driver.fetch([QUEUE], 3, LONG)
            await asyncio.gather(*(self._execute(driver, job) for job in fetched), asyncio.sleep(0))

    async def _execute(self, driver: Driver, job: FetchedJob) -> None:
        key = ordering_key_of(job.payload)
        assert key is not None
        assert key not in self._running
        self._running.add(key)
        await asyncio.sleep(0)
        self._running.remove(key)
        match self._random.choice(["release", "retry", "fail", "complete", "complete"]):
            case "retry":
                await driver.retry([Retry(job.lease, 0)])
            case verb:
                self.done += [job.job_id] if verb in ENDS else []
                await VERBS[verb](driver, [job.lease])


async def test_however_many_fetch_no_key_is_executed_twice_at_a_time_or_out_of_order(
    driver: Driver, other: Driver
) -> None:
    """With jobs released, retried and failed in between, which go through their turns again."""
    lines = [new_line(8, f"device-{number}") for number in range(8)]
    workers = Workers()

    async def push(mine: Driver, line: list[NewJob]) -> None:
        for job in line:
            await mine.push([job])

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for number, line in enumerate(lines):
            tasks.create_task(push((driver, other)[number % 2], line))
        for mine in (driver, other) * 3:
            tasks.create_task(workers.work(mine, until=64))
    assert await driver.size(QUEUE) == 0
    for line in lines:
        assert [job_id for job_id in workers.done if job_id in ids(line)] == ids(line)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "key",
    [
        "two words",
        "日本語-\U0001f680",
        "{curly}",
        "}{",
        "a:b:c",
        "devices/7/#",
        "line\nbreak\r\n\ttab",
        "'\"`;--%s?$1",
        "*[a-z]?\\",
        "0",
        "k" * 255,
        "é" * 255,
    ],
    ids=lambda key: repr(key[:12]),
)
async def test_a_key_may_be_any_text(driver: Driver, key: str) -> None:
    line = await _pushed(driver, 3, key)
    job = await _fetch_one(driver)
    assert job.job_id == line[0]
    await _fail(driver, job)
    await driver.retry_failed(await driver.failures.rows())
    assert await _worked_off(driver) == [*line[1:], line[0]]


@pytest.mark.parametrize(
    ("one", "another"),
    [
        *[("pump", "Pump"), ("pump", "pümp"), ("pump", "pump "), ("é", "e\u0301")],
        *[("a", "aa"), ("a", "a:b"), ("a", "{a}"), ("a", "a\x01"), ("%", "%25"), ("1", "01")],
        ("k" * 254 + "1", "k" * 254 + "2"),
    ],
)
async def test_keys_that_look_alike_do_not_wait_for_each_other(driver: Driver, one: str, another: str) -> None:
    await are_keys_of_their_own(driver, one, another)
    await are_keys_of_their_own(driver, another, one)
