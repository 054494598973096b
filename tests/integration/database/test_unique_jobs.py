"""Unique keys where several processes meet, and their table; the contract suite tests what all drivers share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.key_hash import key_hash
from core.queue.state import NewJob
from tests.contract.jobs import LONG, QUEUE, ids, new_job
from tests.integration.database.lock_waits import skip_without_row_locks, until_somebody_waits
from tests.servers.databases import query

KEY = "reading-81"


async def _remembered(driver: DatabaseDriver) -> set[str]:
    return {str(name) for (name,) in await query(driver._database.url.text, "SELECT unique_hash FROM unique_jobs")}


async def _expire(driver: DatabaseDriver) -> None:
    """Let all windows be over."""
    await query(driver._database.url.text, "UPDATE unique_jobs SET expires_at = '2020-01-01 00:00:00'")


def _jobs(*keys: str) -> list[NewJob]:
    return [new_job(unique_key=key) for key in keys]


def _hashes(*keys: str) -> set[str]:
    return {key_hash(QUEUE, key) for key in keys}


# ── in a transaction of the app's ────────────────────────────────────────────────────────────────────


async def _meet(driver: DatabaseDriver, other: DatabaseDriver, *, commits: bool) -> tuple[NewJob, Mapping[str, str]]:
    """Push a job while one with its key is pushed within a transaction; what comes of it."""
    skip_without_row_locks(driver)
    first, second = _jobs(KEY, KEY)
    async with driver._database.engine.connect() as connection:
        assert await driver.push_within(connection, [first]) == {}
        pushing = asyncio.ensure_future(other.push([second]))
        await until_somebody_waits(driver)
        await (connection.commit() if commits else connection.rollback())
    return second, await pushing


async def test_who_meets_a_transaction_with_his_key_is_left_out_if_that_is_committed(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    second, left_out = await _meet(driver, other, commits=True)
    (first,) = ids(await driver.fetch([QUEUE], 10, LONG))
    assert left_out == {second.job_id: first}


async def test_who_meets_a_transaction_with_his_key_is_stored_if_that_comes_to_nothing(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    second, left_out = await _meet(driver, other, commits=False)
    assert left_out == {}
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == [second.job_id]


async def test_a_transaction_is_told_what_it_left_out(driver: DatabaseDriver) -> None:
    (stored,) = _jobs(KEY)
    await driver.push([stored])
    again, ordered, fresh = (
        *_jobs(KEY),
        new_job(unique_key=KEY, ordering_key="pump-7"),
        new_job(unique_key="another", ordering_key="pump-7"),
    )
    async with driver._database.transaction() as connection:
        left_out = await driver.push_within(connection, [again, ordered, fresh])
    assert left_out == {again.job_id: stored.job_id, ordered.job_id: stored.job_id}
    await driver.rescue([QUEUE])
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == ids([stored, fresh])


async def test_a_transaction_that_stays_open_holds_up_no_other_key(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    skip_without_row_locks(driver)
    await driver.push(_jobs(*(f"expired-{number}" for number in range(20))))
    await _expire(driver)
    mine = [f"mine-{number}" for number in range(20)]
    others = [f"other-{number}" for number in range(20)]
    async with driver._database.transaction() as connection, asyncio.timeout(20):
        await driver.push_within(connection, _jobs(*mine, "expired-0"))
        assert await other.push(_jobs(*others, "expired-1")) == {}
        assert len(await other.push(_jobs(*others, "expired-1"))) == 21


# ── the table ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_forgets_twice_as_many_expired_keys_as_it_has_keys(driver: DatabaseDriver) -> None:
    await driver.push(_jobs("a", "b", "c", "d", "e"))
    await _expire(driver)
    await driver.push([new_job(), new_job(ordering_key="pump-7")])
    assert await _remembered(driver) == _hashes("a", "b", "c", "d", "e")
    await driver.push([*_jobs("f"), new_job()])
    assert len(await _remembered(driver)) == 4
    await driver.push(_jobs("g", "h"))
    assert await _remembered(driver) == _hashes("f", "g", "h")


async def test_a_key_is_forgotten_by_whichever_push_comes_by_though_others_do_so_too(
    driver: DatabaseDriver, other: DatabaseDriver
) -> None:
    keys = [f"old-{number}" for number in range(40)]
    await driver.push(_jobs(*keys))
    await _expire(driver)
    fresh = [f"new-{number}" for number in range(30)]
    await asyncio.gather(*((driver, other)[place % 2].push(_jobs(key)) for place, key in enumerate(fresh)))
    await driver.push(_jobs("last"))
    assert await _remembered(driver) == _hashes(*fresh, "last")


@pytest.mark.parametrize(
    "key",
    ["", "\0", "nul \0 in it", "lone \ud800 surrogate", "long" * 10_000],
    ids=["empty", "nul", "text with nul", "surrogate", "long"],
)
async def test_a_key_that_no_column_takes_is_a_key_all_the_same(driver: DatabaseDriver, key: str) -> None:
    (first, second), another = _jobs(key, key), new_job(payload=b"{}", ordering_key=key)
    await driver.push([first, another])
    assert await driver.push([second]) == {second.job_id: first.job_id}
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == ids([first, another])
