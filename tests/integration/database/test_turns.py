"""Turns where several processes meet; the contract suite tests what all drivers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Database
from core.errors import PayloadTooLargeError
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.envelope import ordering_key_of
from core.queue.state import Failure, Lease, NewJob, Retry
from tests.contract.jobs import LONG, QUEUE, eventually, failure, ids, leases, new_job, new_jobs, new_line, states
from tests.integration.database.lock_waits import skip_without_row_locks, until_somebody_waits
from tests.servers.databases import query

KEY = "pump-7"

Verb = Callable[[DatabaseDriver, Sequence[Lease]], Awaitable[object]]

ENDS: dict[str, Verb] = {
    "complete": lambda driver, held: driver.complete(held),
    "fail": lambda driver, held: driver.fail([(each, Failure(each.job_id, QUEUE, "", b"{}", "", 1)) for each in held]),
}


@asynccontextmanager
async def _pushing(driver: DatabaseDriver, jobs: Sequence[NewJob]) -> AsyncIterator[AsyncConnection]:
    """A push that has not committed yet."""
    async with driver._database.transaction() as connection:
        await driver._turns.push(connection, jobs)
        yield connection


async def _fetched(driver: DatabaseDriver) -> list[str]:
    return ids(await driver.fetch([QUEUE], 1000, LONG))


async def _rows(driver: DatabaseDriver, table: str) -> int:
    ((count,),) = await query(driver._database.url.text, f"SELECT COUNT(*) FROM {table}")
    return int(str(count))


async def _is_left_nothing(driver: DatabaseDriver) -> bool:
    tables = ("jobs", "waiting_jobs", "turns", "arrivals")
    return [await _rows(driver, table) for table in tables] == [0, 0, 0, 0]


# ── who meets at one key ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ENDS)
async def test_who_ends_the_last_job_while_the_next_is_being_pushed_waits_and_sees_it(
    driver: DatabaseDriver, other: DatabaseDriver, verb: str
) -> None:
    """A statement that waited for the lock does not see what was committed meanwhile: the one after it has to look."""
    skip_without_row_locks(driver)
    first, second = new_line(2, KEY)
    await driver.push([first])
    held = leases(await driver.fetch([QUEUE], 1, LONG))
    async with _pushing(driver, [second]):
        ending = asyncio.ensure_future(ENDS[verb](other, held))
        await until_somebody_waits(driver)
    assert await ending == set()
    assert await _fetched(driver) == [second.job_id]


async def test_who_pushes_while_the_last_job_is_being_completed_waits_and_gets_the_turn(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    skip_without_row_locks(driver)
    first, second = new_line(2, KEY)
    await driver.push([first])
    (job,) = await driver.fetch([QUEUE], 1, LONG)
    async with driver._database.transaction() as connection:
        turns = await driver._turns.lock(connection, [job.lease])
        await driver._statements.remove(connection, [job.lease])
        pushing = asyncio.ensure_future(other.push([second]))
        await until_somebody_waits(driver)
        await driver._turns.hand_on(connection, turns)
    await pushing
    assert await _fetched(driver) == [second.job_id]


async def test_who_pushes_the_first_job_of_a_key_while_another_does_stands_behind(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    skip_without_row_locks(driver)
    first, second = new_line(2, KEY)
    async with _pushing(driver, [first]):
        pushing = asyncio.ensure_future(other.push([second]))
        await until_somebody_waits(driver)
    await pushing
    assert await _fetched(driver) == [first.job_id]
    assert states(await driver.stats(QUEUE)) == {"executing": 1, "scheduled": 1}


async def test_the_turn_of_a_push_that_came_to_nothing_is_free(driver: DatabaseDriver, other: DatabaseDriver) -> None:
    with pytest.raises(KeyError):
        async with _pushing(driver, new_line(2, KEY)):
            raise KeyError
    (job,) = new_line(1, KEY)
    await other.push([job])
    assert await _fetched(driver) == [job.job_id]


async def test_batches_lock_turns_in_one_order(driver: DatabaseDriver, other: DatabaseDriver) -> None:
    """Else who pushes a, b and who completes b, a would wait for each other."""
    skip_without_row_locks(driver)
    keys = [f"device-{number}" for number in range(9)]
    await driver.push([job for key in keys for job in new_line(1, key)])
    held = leases(await driver.fetch([QUEUE], 9, LONG))
    turns = sorted(lease.turn or "" for lease in held)
    async with driver._database.transaction() as connection:
        await _lock_turn(connection, turns[0])
        batches = [
            other.complete(held[::-1]),
            other.push([job for key in keys[::-1] for job in new_line(1, key)]),
            other.clear(QUEUE),
        ]
        tasks = [asyncio.ensure_future(each) for each in batches]
        await until_somebody_waits(driver)
        await _lock_turn(connection, turns[8])
    await asyncio.gather(*tasks)


async def _lock_turn(connection: AsyncConnection, turn: str) -> None:
    await connection.exec_driver_sql(f"SELECT turn FROM turns WHERE turn = '{turn}' FOR UPDATE NOWAIT")


# ── the app's own transactions ───────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _open(driver: DatabaseDriver, jobs: Sequence[NewJob]) -> AsyncIterator[None]:
    """A transaction of the app's in which jobs are dispatched."""
    async with driver._database.transaction() as connection:
        assert await driver.push_within(connection, jobs) == {}
        yield
    driver.announce(jobs)


async def _until_settled(driver: DatabaseDriver) -> None:
    async def is_settled() -> bool:
        return await _rows(driver, "arrivals") == 0

    await eventually(is_settled)


async def test_jobs_of_a_transaction_get_their_turn_when_that_is_committed(driver: DatabaseDriver) -> None:
    line = new_line(3, KEY)
    async with _open(driver, [plain := new_job(), *line[:2]]):
        pass
    await _until_settled(driver)
    await driver.push(line[2:])
    assert states(await driver.stats(QUEUE)) == {"available": 2, "scheduled": 2}
    fetched = await driver.fetch([QUEUE], 10, LONG)
    assert ids(fetched) == ids([plain, line[0]])
    await driver.complete(leases(fetched))
    for job in line[1:]:
        (again,) = await driver.fetch([QUEUE], 10, LONG)
        assert again.job_id == job.job_id
        await driver.complete([again.lease])
    assert await _is_left_nothing(driver)


async def test_jobs_of_a_transaction_that_came_to_nothing_are_gone(driver: DatabaseDriver) -> None:
    with pytest.raises(KeyError):
        async with _open(driver, new_line(2, KEY)):
            raise KeyError
    assert await driver.queues() == []
    assert await _is_left_nothing(driver)


async def test_what_nobody_was_told_of_is_settled_by_the_rescuer(driver: DatabaseDriver, other: DatabaseDriver) -> None:
    """The process died right after its commit."""
    line = new_line(2, KEY)
    async with driver._database.transaction() as connection:
        await driver.push_within(connection, line)
    assert await driver.queues() == [QUEUE]
    assert states(await driver.stats(QUEUE)) == {"scheduled": 2}
    assert not await other.is_idle([QUEUE])
    assert await other.rescue([QUEUE]) == 0
    assert await _fetched(other) == [line[0].job_id]
    assert await _rows(other, "arrivals") == 0


async def test_jobs_of_a_transaction_go_ahead_of_those_pushed_after_its_commit(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    """Though nobody has settled who has the turn."""
    line = new_line(3, KEY)
    async with driver._database.transaction() as connection:
        await driver.push_within(connection, line[:2])
    await other.push(line[2:])
    for job in line:
        (fetched,) = await other.fetch([QUEUE], 10, LONG)
        assert fetched.job_id == job.job_id
        await other.complete([fetched.lease])
    await other.rescue([QUEUE])
    assert await _is_left_nothing(other)


async def test_a_repeated_push_within_a_transaction_changes_nothing(driver: DatabaseDriver) -> None:
    line = new_line(3, KEY)
    await driver.push(line[:2])
    for _ in range(2):
        async with _open(driver, line):
            pass
        await _until_settled(driver)
    assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 2}


async def test_a_transaction_that_stays_open_holds_up_nobody(driver: DatabaseDriver, other: DatabaseDriver) -> None:
    """Neither those of its own keys, busy or idle, nor those who push or end jobs in one batch with them."""
    skip_without_row_locks(driver)
    await driver.push([job for key in ("busy", "another") for job in new_line(2, key)])
    held = leases(await other.fetch([QUEUE], 10, LONG))
    late = [*new_line(2, "busy"), *new_line(2, "idle"), new_job()]
    async with asyncio.timeout(20), _open(driver, late):
        await other.push([*new_line(1, "busy"), *new_line(1, "idle"), *new_line(1, "another"), new_job()])
        assert await other.complete(held) == set()
        fetched = await other.fetch([QUEUE], 10, LONG)
        assert len(fetched) == 4
        await other.retry([Retry(job.lease, 0) for job in fetched])
        fetched = await other.fetch([QUEUE], 10, LONG)
        await other.fail([(job.lease, failure(job.lease, payload=job.payload)) for job in fetched])
        assert await other.rescue([QUEUE]) == 0
        assert await other.size(QUEUE) == 2
        if driver._database.dialect == "postgresql":  # MySQL locks rows beside those that it deletes or inserts again
            assert await other.retry_failed(await other.failures.rows()) == 4
            assert await other.clear(QUEUE) == 6
    await _until_settled(driver)
    while fetched := await driver.fetch([QUEUE], 10, LONG):
        await driver.complete(leases(fetched))
    assert await _is_left_nothing(driver)


async def test_who_closes_before_all_is_settled_leaves_it_to_the_rescuer(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    async with _open(driver, line := new_line(1, KEY)):
        pass
    await driver.close()
    await other.rescue([QUEUE])
    assert await _fetched(other) == ids(line)


# ── what a stranger did ──────────────────────────────────────────────────────────────────────────────


async def test_a_key_whose_job_was_deleted_by_hand_goes_on_with_the_next_push(driver: DatabaseDriver) -> None:
    line = new_line(3, KEY)
    await driver.push(line[:2])
    await query(driver._database.url.text, "DELETE FROM jobs")
    await driver.push(line[2:])
    assert await _fetched(driver) == [line[1].job_id]


async def test_the_rescuer_hands_on_the_turns_of_jobs_that_an_older_worker_completed(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    """However many there are, within some looks."""
    lines = [new_line(2, f"device-{number}") for number in range(500)]
    await driver.push([job for line in lines for job in line])
    held = await driver.fetch([QUEUE], 1000, LONG)
    as_it_knew_leases = [Lease(job.job_id, job.queue, job.token) for job in held[::2]]
    assert await driver.complete(as_it_knew_leases) == set()
    for _ in range(3):
        assert await other.rescue([QUEUE]) == 0
    assert sorted(await _fetched(other)) == sorted(line[1].job_id for line in lines[::2])


async def test_the_rescuer_leaves_turns_alone_that_somebody_has(driver: DatabaseDriver) -> None:
    await driver.push(new_line(2, KEY))
    for _ in range(3):
        await driver.rescue([QUEUE])
        assert states(await driver.stats(QUEUE)) == {"available": 1, "scheduled": 1}


# ── large ones ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_that_the_server_has_no_room_for_is_refused(driver: DatabaseDriver) -> None:
    large = new_job(payload=b'"' + b"x" * (16 * 1024 * 1024) + b'"', ordering_key=KEY)
    if driver._database.dialect != "mysql":
        pytest.skip("there is room")
    with pytest.raises(PayloadTooLargeError, match=large.job_id):
        await driver.push([*new_line(1, KEY), large])
    assert await driver.size(QUEUE) == 0


async def test_a_push_of_many_mebibytes_keeps_its_order(driver: DatabaseDriver) -> None:
    payload = b'"' + b"x" * (512 * 1024) + b'"'
    line = [new_job(payload=payload, ordering_key=f"device-{number}") for number in range(40)]
    await driver.push(line)
    assert await _fetched(driver) == ids(line)


# ── all at once ──────────────────────────────────────────────────────────────────────────────────────


class Crowd:
    """Processes that push, fetch and end jobs of a few keys, and operators who interfere."""

    JOBS = 120

    def __init__(self, drivers: Sequence[DatabaseDriver]) -> None:
        self._drivers = drivers
        self._random = Random(11)
        self.pushed: dict[str, list[str]] = {}
        self.done: list[str] = []
        self._running: set[str] = set()
        self._is_pushed = False

    async def run(self) -> None:
        async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
            for driver in self._drivers:
                tasks.create_task(self._work(driver))
            await self._push_all()
            self._is_pushed = True

    async def _push_all(self) -> None:
        """One pusher for each key, so that its order is known."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(self._push(f"device-{number}"))

    async def _push(self, key: str) -> None:
        mine = self.pushed[key] = []
        while len(mine) < self.JOBS / 4:
            driver, jobs = self._random.choice(self._drivers), new_line(self._random.randint(1, 3), key)
            match self._random.choice(["push", "push again", "within"]):
                case "within":
                    async with _open(driver, jobs):
                        await asyncio.sleep(0)
                case "push again":
                    await driver.push(jobs)
                    await self._random.choice(self._drivers).push([*jobs, *new_jobs(0)])
                case _:
                    await driver.push(jobs)
            mine += ids(jobs)

    async def _work(self, driver: DatabaseDriver) -> None:
        while not self._is_pushed or await driver.size(QUEUE):
            fetched = await driver.fetch([QUEUE], 3, LONG)
            keys = [str(ordering_key_of(job.payload)) for job in fetched]
            assert self._running.isdisjoint(keys)
            assert len(keys) == len(set(keys))
            self._running.update(keys)
            await asyncio.sleep(0)
            self._running.difference_update(keys)
            self.done += [job_id for job_id in ids(fetched) if job_id not in self.done]
            await self._random.choice([driver.complete, driver.complete, driver.release])(leases(fetched))


async def test_in_a_crowd_nobody_is_stranded_and_no_two_of_a_key_run_at_a_time(migrated_database_url: str) -> None:
    async with AsyncExitStack() as closing:
        drivers = [DatabaseDriver(Database(migrated_database_url), Events()) for _ in range(3)]
        for driver in drivers:
            closing.push_async_callback(driver.close)
        crowd = Crowd(drivers)
        await crowd.run()
        for line in crowd.pushed.values():
            assert [job_id for job_id in crowd.done if job_id in line] == line
        await _until_settled(drivers[0])
        assert await _is_left_nothing(drivers[0])
