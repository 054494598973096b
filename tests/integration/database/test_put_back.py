"""Failed jobs put back by hand, while others do the same; the contract suite tests what all drivers share."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from core.queue.drivers.database import DatabaseDriver
from core.queue.state import Failure, NewJob

BLOCKED = 0.5
"""Seconds after which another process is taken to wait for a lock of ours."""


async def _fail(driver: DatabaseDriver, exception: str) -> None:
    (job,) = await driver.fetch(["default"], 1, 60)
    failure = Failure(job.job_id, "default", "", job.payload, exception, job.attempts)
    assert await driver.fail([(job.lease, failure)]) == set()


async def test_a_job_that_fails_anew_while_an_old_list_is_put_back_keeps_its_row(
    driver: DatabaseDriver, other: DatabaseDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in ("1", "2"):
        await driver.push([NewJob(job_id, "default", b"{}")])
        await _fail(driver, "first")
    listed = await driver.failures.rows()
    assert await driver.retry_failed([row for row in listed if row.job_id == "1"]) == 1
    failing: list[asyncio.Task[None]] = []
    push = other._statements.push

    async def push_while_one_fails(connection: AsyncConnection, jobs: Sequence[NewJob], tell: Collection[str]) -> None:
        await push(connection, jobs, tell)
        failing.append(asyncio.create_task(_fail(driver, "again")))
        await asyncio.wait(failing, timeout=BLOCKED)

    monkeypatch.setattr(other._statements, "push", push_while_one_fails)
    assert await other.retry_failed(listed) == 1
    await asyncio.gather(*failing)
    assert [(row.job_id, row.exception) for row in await driver.failures.rows()] == [("1", "again")]
    assert [job.job_id for job in await driver.fetch(["default"], 2, 60)] == ["2"]
