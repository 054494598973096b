"""Batches that name the same jobs in different order lock them in one: else they would wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Database
from core.errors import QueueUnavailableError
from core.queue.drivers.database import DatabaseDriver
from core.queue.state import Failure, Lease, NewJob, Retry
from tests.integration.database.lock_waits import skip_without_row_locks, until_somebody_waits
from tests.servers.databases import query

Verb = Callable[[DatabaseDriver, Sequence[Lease]], Awaitable[AbstractSet[str]]]

VERBS: dict[str, Verb] = {
    "complete": lambda driver, held: driver.complete(held),
    "retry": lambda driver, held: driver.retry([Retry(lease, 60) for lease in held]),
    "fail": lambda driver, held: driver.fail([(each, Failure(each.job_id, "q", "", b"", "", 1)) for each in held]),
    "release": lambda driver, held: driver.release(held),
    "renew": lambda driver, held: driver.renew(held, 60),
}


async def _lock(connection: AsyncConnection, job_id: str) -> None:
    await connection.exec_driver_sql(f"SELECT id FROM jobs WHERE job_id = '{job_id}' FOR UPDATE NOWAIT")


async def _fetched(driver: DatabaseDriver) -> list[Lease]:
    """The leases of jobs "0" to "8"."""
    skip_without_row_locks(driver)
    await driver.push([NewJob(f"{number}", "q", b"{}") for number in range(9)])
    return [job.lease for job in await driver.fetch(["q"], 9, 60)]


@pytest.mark.parametrize("verb", VERBS)
async def test_whoever_waits_for_the_first_job_holds_none_of_the_others(
    driver: DatabaseDriver, other: DatabaseDriver, verb: str
) -> None:
    leases = await _fetched(driver)
    async with driver._database.transaction() as connection:
        await _lock(connection, "0")
        telling = asyncio.ensure_future(VERBS[verb](other, leases[::-1]))
        await until_somebody_waits(driver)
        await _lock(connection, "8")
    assert await telling == set()


@pytest.mark.parametrize("verb", VERBS)
async def test_nobody_waits_for_a_job_that_is_not_in_the_batch(
    driver: DatabaseDriver, other: DatabaseDriver, verb: str
) -> None:
    """Not even in a table so small that to read all of it were the quickest."""
    leases = await _fetched(driver)
    async with driver._database.transaction() as connection:
        await _lock(connection, "0")
        async with asyncio.timeout(10):
            assert await VERBS[verb](other, leases[1:7]) == set()


async def test_whoever_stands_still_in_a_transaction_does_not_hold_its_jobs_for_ever(
    driver: DatabaseDriver, migrated_database_url: str
) -> None:
    """A process that is frozen, or a machine that is gone without a word."""
    leases = await _fetched(driver)
    if not await _limits_idle_transactions(driver):
        pytest.skip("MySQL has no limit for transactions that stand still")
    await driver.renew(leases, -1)
    database, has_locked, goes_on = Database(migrated_database_url, answer_timeout=1), asyncio.Event(), asyncio.Event()

    async def stand_still() -> None:
        async with database.transaction() as connection:
            await _lock(connection, "0")
            has_locked.set()
            await goes_on.wait()
            await _lock(connection, "1")

    standing = asyncio.ensure_future(stand_still())
    await has_locked.wait()
    assert await driver.rescue(["q"]) == 8
    async with asyncio.timeout(20):
        while not await driver.rescue(["q"]):  # noqa: ASYNC110, a server tells nobody
            await asyncio.sleep(0.05)
    goes_on.set()
    with pytest.raises(QueueUnavailableError):
        await standing
    await database.ping()
    await database.close()


async def _limits_idle_transactions(driver: DatabaseDriver) -> bool:
    ((version,),) = await query(driver._database.url.text, "SELECT version()")
    return "PostgreSQL" in str(version) or "MariaDB" in str(version)
