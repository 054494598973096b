"""A caller that goes away in the middle of a statement leaves no lock behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from core.database.engine import Database
from core.database.migrations import upgrade
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.state import NewJob


async def test_a_write_of_sqlites_that_was_cut_short_gives_its_lock_back(tmp_path: Path) -> None:
    """The thread that runs the statement cannot be cancelled: it takes the lock after its caller has gone."""
    url = f"sqlite:///{tmp_path}/queue.sqlite3"
    driver, other = DatabaseDriver(Database(url), Events()), DatabaseDriver(Database(url), Events())
    await upgrade(driver._database)
    await driver.push([NewJob(f"{number}", "default", b"{}") for number in range(50)])
    in_statement, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(*_: object) -> int:
        loop.call_soon_threadsafe(in_statement.set)
        may_go_on.wait(10)
        return 0

    @event.listens_for(driver._database.engine.sync_engine, "checkout")
    def add_function(connection: Any, *_: object) -> None:
        connection.create_function("hold", 0, hold)

    async def work(connection: Any) -> None:
        await connection.exec_driver_sql("UPDATE jobs SET attempts = hold() RETURNING id")

    task = asyncio.create_task(driver._database.write(work, single=True))
    await in_statement.wait()
    task.cancel()
    loop.call_later(0, may_go_on.set)
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)  # and its traceback holds on to the statement
    async with asyncio.timeout(4):  # less than SQLite waits for a lock
        await other.push([NewJob("after", "default", b"{}")])
    assert {job.attempts for job in await other.fetch(["default"], 51, 60)} == {1}
    await driver.close()
    await other.close()


_FILES = Path("/proc/self/fd")


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(not _FILES.exists(), reason="there is no /proc here to tell which files are open")
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("is_connected", [False, True])
async def test_a_cancelled_call_leaves_no_connection_of_sqlites_open(tmp_path: Path, is_connected: bool) -> None:
    """Wherever the cancellation meets it, on the way to a connection or with one."""
    database = Database(f"sqlite:///{tmp_path}/queue.sqlite3")
    await upgrade(database)
    kept = []
    for steps in range(25):
        await database.close()
        if is_connected:
            await database.ping()
        task = asyncio.create_task(database.write(_give_rows_back, single=True))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        kept.append(await asyncio.gather(task, return_exceptions=True))  # tracebacks, which hold on to statements
    await database.close()
    assert _open_files(tmp_path) == []


async def _give_rows_back(connection: Any) -> None:
    await connection.exec_driver_sql(
        "INSERT INTO failed_jobs (job_id, connection, queue, job, payload, exception, attempts, failed_at) "
        "VALUES (hex(randomblob(16)), '', '', '', '', '', 1, '') RETURNING id"
    )


def _open_files(folder: Path) -> list[str]:
    targets = map(os.path.realpath, _FILES.iterdir())  # the path itself for a file closed meanwhile
    return [each for each in targets if each.startswith(str(folder))]
