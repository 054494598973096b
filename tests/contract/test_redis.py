"""What is Redis's own: where keys lie, what is left behind, and a failed_jobs table in another store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from core.database.engine import Database
from core.database.migrations import upgrade
from core.errors import QueueUnavailableError
from core.queue.driver import Driver, FailureStore
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.queue.failures import DatabaseFailureStore
from core.queue.state import FailedJob, Failure, Retry
from tests.contract.cost import redis_commands
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    failed,
    failure,
    ids,
    leases,
    new_job,
    new_jobs,
    pushed_and_fetched,
    rescued,
    run_out,
    staged,
    states,
)
from tests.servers.redis import ValkeyProcess


class Died(Exception):
    """Stands for the end of the process."""


class BrittleFailureStore(MemoryFailureStore):
    """Ends the process at a chosen moment, once."""

    dies: str | None = None

    async def record(self, connection: str, failures: Sequence[Failure]) -> None:
        self._die_at("before the row is written")
        await super().record(connection, failures)
        self._die_at("after the row was written")

    @asynccontextmanager
    async def take(self, job_ids: Sequence[str]) -> AsyncIterator[list[FailedJob]]:
        async with super().take(job_ids) as rows:
            self._die_at("before the job is back")
            yield rows
            self._die_at("before the row is removed")
        self._die_at("after the row was removed")

    def _die_at(self, moment: str) -> None:
        if self.dies == moment:
            self.dies = None
            raise Died(moment)


class AbsentFailureStore(MemoryFailureStore):
    """A database that cannot be reached, while `absent`."""

    absent = True

    async def record(self, connection: str, failures: Sequence[Failure]) -> None:
        if self.absent:
            raise QueueUnavailableError("the database is away")
        await super().record(connection, failures)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def _driver(client: Redis, prefix: str, failures: FailureStore | None = None) -> RedisDriver:
    return RedisDriver(client, failures or MemoryFailureStore(), prefix=prefix)


async def _keys(client: Redis, prefix: str) -> set[str]:
    return {key.decode() async for key in client.scan_iter(match=f"*{prefix}*", count=1000)}


async def _exercise(driver: Driver, queue: str) -> None:
    """Bring every state about; 1 failed, 2 executing, 3 available, 1 scheduled, 1 retryable."""
    await failed(driver, 2, queue)
    await driver.retry_failed((await driver.failures.rows(queue=queue))[:1])
    (lost,) = await driver.fetch([queue], 1, SHORT)
    await rescued(driver, 1, queue)
    await driver.complete([lost.lease])
    (job,) = await driver.fetch([queue], 1, LONG)
    await driver.retry([Retry(job.lease, LONG)])
    await pushed_and_fetched(driver, 2, queue=queue)
    await driver.push([*new_jobs(3, queue), new_job(queue, delay=LONG)])


@pytest.mark.parametrize("queue", [QUEUE, "two words", "{curly}", "}{", "{}", "a}b", "日本"])
async def test_every_key_of_a_queue_lies_on_its_slot(client: Redis, redis_prefix: str, queue: str) -> None:
    driver = _driver(client, redis_prefix)
    await driver.ping()
    before = await _keys(client, redis_prefix)
    await _exercise(driver, queue)
    of_the_queue = {key for key in await _keys(client, redis_prefix) - before if "{" in key}
    assert len(of_the_queue) >= 4
    assert len({key_slot(key.encode()) for key in of_the_queue}) == 1


async def test_every_key_begins_with_the_prefix(client: Redis, redis_prefix: str) -> None:
    await _exercise(_driver(client, redis_prefix), QUEUE)
    keys = await _keys(client, redis_prefix)
    assert all(key.startswith(redis_prefix) for key in keys)
    assert {key for key in keys if f"{{{QUEUE}}}" not in key} == {f"{redis_prefix}queues"}


async def test_prefixes_keep_applications_apart(client: Redis, redis_prefix: str) -> None:
    one, another = _driver(client, f"{redis_prefix}one:"), _driver(client, f"{redis_prefix}another:")
    await one.push([new_job()])
    assert await another.fetch([QUEUE], 1, LONG) == []
    assert await another.queues() == []
    assert len(await one.fetch([QUEUE], 1, LONG)) == 1


@pytest.mark.parametrize("end", ["complete", "fail"])
async def test_of_jobs_that_ended_no_key_is_left(client: Redis, redis_prefix: str, end: str) -> None:
    driver = _driver(client, redis_prefix)
    await driver.push([*new_jobs(5), *new_jobs(5, delay=SHORT)])
    await staged(driver, 10)
    first, second, third, *rest = await driver.fetch([QUEUE], 10, LONG)
    await driver.retry([Retry(first.lease, 0)])
    await driver.release([second.lease])
    await driver.renew([third.lease], SHORT)
    await rescued(driver, 1)
    await staged(driver, 3)
    again = await driver.fetch([QUEUE], 10, LONG)
    assert await VERBS[end](driver, leases([*again, *rest])) == set()
    await driver.retry_failed([])
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


async def test_of_a_failed_job_that_was_put_back_and_done_no_key_is_left(client: Redis, redis_prefix: str) -> None:
    driver = _driver(client, redis_prefix)
    await failed(driver, 3)
    await driver.retry_failed(await driver.failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 3, LONG)))
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


READS_A_WHOLE_KEY = {
    *("LRANGE", "LREM", "LPOS", "LINSERT", "HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SORT"),
    *("KEYS", "SCAN", "SSCAN", "ZSCAN"),
}
"""HSCAN is not among them: a rescue reads the failures that wait for their row, page by page."""


async def test_pitfall_16_no_key_is_read_as_a_whole(client: Redis, redis_prefix: str) -> None:
    driver = _driver(client, redis_prefix)
    async with redis_commands(driver) as commands:
        await _exercise(driver, QUEUE)
        await driver.stage([QUEUE])
        await driver.rescue([QUEUE])
        await driver.size(QUEUE)
        await driver.stats(QUEUE)
    assert commands.total() > 20
    assert not READS_A_WHOLE_KEY & commands.keys()


# ── a process that ends between Redis and the table ──────────────────────────────────────────────────


@pytest.mark.parametrize("moment", ["before the row is written", "after the row was written"])
@pytest.mark.parametrize("again", ["fail", "rescue"])
async def test_pitfall_23_a_failure_that_was_cut_off_is_finished(
    client: Redis, redis_prefix: str, moment: str, again: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    held = leases(await pushed_and_fetched(driver, 3))
    failures.dies = moment
    with pytest.raises(Died):
        await VERBS["fail"](driver, held)
    assert await driver.fetch([QUEUE], 10, LONG) == []
    next_process = _driver(client, redis_prefix, failures)
    if again == "fail":
        await VERBS["fail"](next_process, held)
    await next_process.rescue([QUEUE])
    assert sorted(ids(await failures.rows())) == sorted(each.job_id for each in held)
    assert states(await next_process.stats(QUEUE)) == {"failed": 3}
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


async def test_failures_wait_in_redis_while_the_table_is_away(client: Redis, redis_prefix: str) -> None:
    failures = AbsentFailureStore()
    driver = _driver(client, redis_prefix, failures)
    held = leases(await pushed_and_fetched(driver, 3))
    assert await VERBS["fail"](driver, held) == set()
    assert states(await driver.stats(QUEUE)) == {"failed": 3}
    assert await driver.queues() == [QUEUE]
    await driver.rescue([QUEUE])
    assert await driver.fetch([QUEUE], 10, LONG) == []
    failures.absent = False
    await driver.rescue([QUEUE])
    assert len(await failures.rows()) == 3
    assert states(await driver.stats(QUEUE)) == {"failed": 3}


@pytest.mark.parametrize("moment", ["before the job is back", "before the row is removed", "after the row was removed"])
async def test_putting_back_that_was_cut_off_is_finished_by_the_next(
    client: Redis, redis_prefix: str, moment: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    expected = await failed(driver, 3)
    rows = await failures.rows()
    failures.dies = moment
    with pytest.raises(Died):
        await driver.retry_failed(rows)
    next_process = _driver(client, redis_prefix, failures)
    await next_process.retry_failed(await failures.rows())
    assert await failures.rows() == []
    assert states(await next_process.stats(QUEUE)) == {"available": 3}
    assert sorted(ids(await next_process.fetch([QUEUE], 10, LONG))) == sorted(expected)


async def test_a_job_that_was_back_and_done_before_its_row_was_removed_is_not_put_back_again(
    client: Redis, redis_prefix: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    await failed(driver, 2)
    failures.dies = "before the row is removed"
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 10, LONG)))
    await driver.retry_failed(await failures.rows())
    assert await failures.rows() == []
    assert await driver.size(QUEUE) == 0
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


@pytest.mark.parametrize("moment", ["before the row is removed", "after the row was removed"])
async def test_a_job_that_was_back_and_failed_anew_can_be_put_back_again(
    client: Redis, redis_prefix: str, moment: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    await failed(driver, 1)
    failures.dies = moment
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    (job,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.fail([(job.lease, failure(job.lease, exception="anew"))])
    assert [row.exception for row in await failures.rows()] == ["anew"]
    assert await driver.retry_failed(await failures.rows()) == 1
    assert states(await driver.stats(QUEUE)) == {"available": 1}


async def test_a_job_put_back_after_a_cut_that_is_then_forgotten_and_dispatched_anew_runs(
    client: Redis, redis_prefix: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    (job_id,) = await failed(driver, 1)
    failures.dies = "after the row was removed"
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 1, LONG)))
    await driver.push([new_job(job_id=job_id)])
    assert ids(await driver.fetch([QUEUE], 1, LONG)) == [job_id]


# ── with the table in a database, as in production ───────────────────────────────────────────────────


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[DatabaseFailureStore]:
    database = Database(f"sqlite:///{tmp_path}/failed.sqlite3")
    await upgrade(database)
    yield DatabaseFailureStore(database)
    await database.close()


async def test_failed_jobs_go_to_the_database_and_back(
    client: Redis, redis_prefix: str, table: DatabaseFailureStore
) -> None:
    driver = _driver(client, redis_prefix, table)
    expected = await failed(driver, 3)
    assert states(await driver.stats(QUEUE)) == {"failed": 3}
    assert {row.connection for row in await table.rows()} == {"redis"}
    assert await driver.queues() == [QUEUE]
    assert await driver.retry_failed(await table.rows()) == 3
    assert await table.rows() == []
    assert sorted(ids(await driver.fetch([QUEUE], 5, LONG))) == sorted(expected)


# ── a server that goes away ──────────────────────────────────────────────────────────────────────────


async def test_a_server_that_was_killed_comes_back_with_the_jobs(restartable_redis: ValkeyProcess) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        done, waiting = await pushed_and_fetched(driver, 2, lease=SHORT)
        wake_up = driver.wake_up([QUEUE])
        restartable_redis.kill()
        with pytest.raises(QueueUnavailableError, match=str(restartable_redis.port)):
            await driver.complete([done.lease])
        assert not await wake_up.wait(0.05) or not await wake_up.wait(0.05)
        restartable_redis.start()
        assert await driver.complete([done.lease]) == set()
        await run_out(driver, SHORT)
        await rescued(driver, 1)
        assert await wake_up.wait(LONG)
        assert ids(await driver.fetch([QUEUE], 5, LONG)) == [waiting.job_id]
        await wake_up.close()
