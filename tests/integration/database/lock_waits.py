"""Whether somebody waits for a lock of the server."""

from __future__ import annotations

import time

import pytest

from core.queue.drivers.database import DatabaseDriver
from tests.servers.databases import query

WAITING = {
    "postgresql": "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
}


def skip_without_row_locks(driver: DatabaseDriver) -> None:
    if driver._database.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")


async def until_somebody_waits(driver: DatabaseDriver) -> None:
    deadline = time.monotonic() + 10
    while not await _waiting(driver):
        assert time.monotonic() < deadline, "nobody waits for a lock"


async def _waiting(driver: DatabaseDriver) -> int:
    ((*_, count),) = await query(driver._database.url.text, WAITING[driver._database.dialect])
    return int(str(count))
