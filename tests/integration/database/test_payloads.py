"""Large and odd payloads, and what a database that takes only so much says of them."""

from __future__ import annotations

import json

import pytest

from core.database.engine import Database
from core.database.migrations import upgrade
from core.errors import PayloadTooLargeError
from core.queue.drivers.database import DatabaseDriver
from core.queue.failures import DatabaseFailureStore
from core.queue.state import Failure, NewJob, Retry
from tests.servers.databases import query
from tests.servers.mysql import MysqlProcess

MIB = 1024 * 1024


def _envelope(size: int) -> bytes:
    return json.dumps({"blob": "x" * (size - 12)}).encode()


async def test_pitfall_24_five_mebibytes_go_through_every_table(driver: DatabaseDriver) -> None:
    payload = _envelope(5 * MIB)
    await driver.push([NewJob("1", "default", payload)])
    (job,) = await driver.fetch(["default"], 1, 60)
    assert job.payload == payload
    failure = Failure("1", "default", "Large", payload, "Traceback …\n" * 10_000, 1)
    assert await driver.fail([(job.lease, failure)]) == set()
    (row,) = await driver.failures.rows()
    assert (row.payload, row.exception) == (payload, failure.exception)
    assert await driver.retry_failed([row]) == 1
    assert [again.payload for again in await driver.fetch(["default"], 1, 60)] == [payload]


async def test_sixteen_mebibytes_are_stored_or_refused_with_the_servers_limit(driver: DatabaseDriver) -> None:
    payload = _envelope(16 * MIB)
    if driver._database.dialect == "mysql" and await _packet(driver) < 18 * MIB:
        with pytest.raises(PayloadTooLargeError, match=r"job 1 .*max_allowed_packet"):
            await driver.push([NewJob("1", "default", payload)])
        assert await driver.size("default") == 0
        return
    await driver.push([NewJob("1", "default", payload)])
    assert [job.payload for job in await driver.fetch(["default"], 1, 60)] == [payload]


async def _packet(driver: DatabaseDriver) -> int:
    ((limit,),) = await query(driver._database.url.text, "SELECT @@max_allowed_packet")
    assert isinstance(limit, int)
    return limit


async def test_a_traceback_that_does_not_fit_beside_its_payload_is_shortened(driver: DatabaseDriver) -> None:
    payload = _envelope(5 * MIB)
    await driver.push([NewJob("1", "default", payload)])
    (job,) = await driver.fetch(["default"], 1, 60)
    exception = "first" + '"' * 9 * MIB + "last"
    await driver.fail([(job.lease, Failure("1", "default", "Large", payload, exception, 1))])
    (row,) = await driver.failures.rows()
    assert row.payload == payload
    assert (row.exception[:5], row.exception[-4:]) == ("first", "last")
    if driver._database.dialect != "mysql":
        assert row.exception == exception


async def test_a_failure_too_large_for_the_table_is_refused_with_the_servers_limit(driver: DatabaseDriver) -> None:
    """With its queues in Redis, an application may dispatch what no statement of MySQL can carry."""
    failure = Failure("1", "default", "Large", _envelope(16 * MIB), "Traceback", 1)
    if driver._database.dialect == "mysql" and await _packet(driver) < 18 * MIB:
        with pytest.raises(PayloadTooLargeError, match=r"job 1 .*max_allowed_packet"):
            await driver.failures.record("redis", [failure])
        assert await driver.failures.rows() == []
    else:
        await driver.failures.record("redis", [failure])
        assert [len(row.payload) for row in await driver.failures.rows()] == [16 * MIB]


@pytest.mark.skipif(MysqlProcess.program is None, reason="neither mariadbd nor mysqld is on PATH")
async def test_a_limit_that_was_raised_counts_at_once() -> None:
    failure = Failure("1", "default", "Large", _envelope(5 * MIB), "Traceback", 1)
    with MysqlProcess() as server:
        await query(server.url, f"SET GLOBAL max_allowed_packet = {4 * MIB}")
        database = Database(server.url)
        await upgrade(database)
        failures = DatabaseFailureStore(database)
        with pytest.raises(PayloadTooLargeError, match="max_allowed_packet"):
            await failures.record("redis", [failure])
        await query(server.url, f"SET GLOBAL max_allowed_packet = {8 * MIB}")
        await failures.record("redis", [failure])
        await database.close()


async def test_a_write_of_many_mebibytes_is_cut_into_statements_and_keeps_its_order(driver: DatabaseDriver) -> None:
    jobs = [NewJob(f"{number}", "default", _envelope(MIB // 2)) for number in range(20)]
    await driver.push(jobs)
    fetched = await driver.fetch(["default"], 20, 60)
    assert [job.job_id for job in fetched] == [job.job_id for job in jobs]


async def test_a_push_of_many_statements_is_stored_whole_or_not_at_all(driver: DatabaseDriver) -> None:
    jobs = [NewJob(f"{number}", "default", b"{}") for number in range(2500)]
    with pytest.raises(Exception, match="queue"):
        await driver.push([*jobs, NewJob("bad", None, b"{}")])  # type: ignore[arg-type]
    assert await driver.size("default") == 0
    await driver.push(jobs)
    assert await driver.size("default") == 2500


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"a\0b", b"data:;base64,eA==", "ä\U0001f680".encode()])
async def test_a_foreign_payload_that_is_put_back_stays_as_it_was(driver: DatabaseDriver, payload: bytes) -> None:
    await driver.failures.record("redis", [Failure("1", "default", "", payload, "E", 1)])
    await driver.retry_failed(await driver.failures.rows())
    assert [job.payload for job in await driver.fetch(["default"], 1, 60)] == [payload]


async def test_delays_of_one_batch_are_each_jobs_own(driver: DatabaseDriver) -> None:
    await driver.push([NewJob(f"{number}", "default", b"{}") for number in range(600)])
    jobs = await driver.fetch(["default"], 600, 60)
    delays = {job.job_id: 1000.0 + int(job.job_id) for job in jobs}
    assert await driver.retry([Retry(job.lease, delays[job.job_id]) for job in jobs]) == set()
    wait = await driver.stage(["default"])
    assert wait is not None
    assert 900 < wait <= 1000
    assert (await driver.stats("default")).retryable == 600


@pytest.mark.parametrize("order", [1, -1])
async def test_of_two_failures_of_one_job_in_a_batch_that_of_its_owner_is_kept(
    driver: DatabaseDriver, order: int
) -> None:
    """A worker that was frozen for longer than its lease may fail the job twice, and report both at once."""
    await driver.push([NewJob("1", "default", b"{}")])
    (old,) = await driver.fetch(["default"], 1, 0)
    while not await driver.rescue(["default"]):
        pass
    (new,) = await driver.fetch(["default"], 1, 60)
    failures = [(job.lease, Failure("1", "default", "", b"{}", "E", job.attempts)) for job in (old, new)]
    assert await driver.fail(failures[::order]) == {"1"}
    assert [row.attempts for row in await driver.failures.rows()] == [new.attempts]
