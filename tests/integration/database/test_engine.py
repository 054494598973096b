"""A database that is not there, goes away, or breaks a connection; and the transactions of one that is."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import uvloop
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Database
from core.database.migrations import upgrade
from core.errors import QueueUnavailableError
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.state import NewJob
from tests.servers.databases import query
from tests.servers.mysql import MysqlProcess
from tests.servers.postgres import PostgresProcess

ROOT = Path(__file__).parents[3]


def test_a_mysql_server_that_hangs_up_at_once_is_not_there() -> None:
    """On uvloop, where a connection that is closed already has no socket."""

    async def connect() -> None:
        async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
            url = f"mysql://user@127.0.0.1:{server.sockets[0].getsockname()[1]}/name"
            for _ in range(30):  # which is it, if not every time
                database = Database(url)
                with pytest.raises(QueueUnavailableError, match="cannot be reached"):
                    await database.ping()
                await database.close()

    uvloop.run(connect())


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://user:secret@127.0.0.1:1/name", "postgresql://127.0.0.1:1/name"),
        ("mysql://user:secret@127.0.0.1:1/name", "mysql://127.0.0.1:1/name"),
        ("sqlite:////proc/nowhere.sqlite3", "sqlite:////proc/nowhere.sqlite3"),
    ],
)
async def test_a_database_that_is_not_there_is_named_without_its_password(url: str, address: str) -> None:
    database = Database(url)
    with pytest.raises(QueueUnavailableError) as unavailable:
        await database.ping()
    assert address in str(unavailable.value)
    assert unavailable.value.server == address
    assert "DATABASE_URL" in str(unavailable.value)
    assert "secret" not in str(unavailable.value)
    assert unavailable.value.__cause__ is not None
    await database.close()
    for thread in threading.enumerate():
        if "connection_worker" in thread.name:  # aiosqlite's, which says goodbye to the loop
            await asyncio.to_thread(thread.join)


async def test_a_server_that_was_killed_is_used_again_once_it_is_back(restartable_postgres: PostgresProcess) -> None:
    driver = DatabaseDriver(Database(restartable_postgres.url), Events())
    await upgrade(driver._database)
    wake_up = driver.wake_up(["default"])
    await driver.push([NewJob("1", "default", b"{}")])
    restartable_postgres.kill()
    with pytest.raises(QueueUnavailableError, match=str(restartable_postgres.port)):
        await driver.fetch(["default"], 1, 60)
    restartable_postgres.start()
    assert [job.job_id for job in await driver.fetch(["default"], 1, 60)] == ["1"]
    while not await wake_up.wait(10):  # the listener is back when it tells
        pass
    await wake_up.close()
    await driver.close()


@pytest.fixture(params=["postgres", "mysql"])
def freezable(request: pytest.FixtureRequest) -> Iterator[PostgresProcess | MysqlProcess]:
    if request.param == "mysql" and MysqlProcess.program is None:
        pytest.skip("neither mariadbd nor mysqld is on PATH")
    with PostgresProcess() if request.param == "postgres" else MysqlProcess() as server:
        yield server


async def test_a_server_that_gives_no_answer_is_unavailable(freezable: PostgresProcess | MysqlProcess) -> None:
    database, another = (Database(freezable.url, answer_timeout=0.5) for _ in range(2))
    await database.ping()
    freezable.freeze()
    async with asyncio.timeout(30):
        for each in (database, another):  # one has a connection in its pool
            with pytest.raises(QueueUnavailableError, match=r"no answer within 0\.5 s"):
                await each.ping()
        with pytest.raises(QueueUnavailableError, match=r"no answer within 0\.5 s"):
            await database.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
    freezable.thaw()
    await _until_there_is_an_answer(database)
    await database.close()
    await another.close()


async def _until_there_is_an_answer(database: Database) -> None:
    """In time, which on a busy machine not every answer is."""
    async with asyncio.timeout(30):
        while True:
            with suppress(QueueUnavailableError):
                return await database.ping()


async def test_closing_does_not_wait_for_a_server_that_gives_no_answer(
    freezable: PostgresProcess | MysqlProcess,
) -> None:
    database = Database(freezable.url)
    await database.ping()
    freezable.freeze()
    async with asyncio.timeout(30):
        await database.close()
    freezable.thaw()


async def test_what_may_take_long_is_waited_for(driver: DatabaseDriver) -> None:
    database = Database(driver._database.url.text, answer_timeout=0.001)
    hurried = DatabaseDriver(database, Events())
    await driver.push([NewJob(f"{number}", "default", b"{}") for number in range(1000)])
    assert await hurried.clear("default") == 1000
    await hurried.close()


async def test_an_error_does_not_hold_what_was_to_be_written(driver: DatabaseDriver) -> None:
    statement = text("INSERT INTO failed_jobs (job_id, payload) VALUES (:job_id, :payload)")
    with pytest.raises(DBAPIError) as refused:
        await driver._database.write(
            lambda connection: connection.execute(statement, {"job_id": "1", "payload": "hush"})
        )
    assert "hush" not in str(refused.value).split("[SQL", 1)[1]


async def test_a_connection_that_died_in_the_pool_is_nobodys_trouble(driver: DatabaseDriver) -> None:
    await driver.push([NewJob("1", "default", b"{}")])
    await _break_connections(driver._database)
    assert await driver.size("default") == 1
    await _break_connections(driver._database)
    assert len(await driver.fetch(["default"], 1, 60)) == 1


async def test_a_server_that_became_read_only_is_waited_for(restartable_postgres: PostgresProcess) -> None:
    driver = DatabaseDriver(Database(restartable_postgres.url), Events())
    await upgrade(driver._database)
    await driver.push([NewJob("1", "default", b"{}")])
    (job,) = await driver.fetch(["default"], 1, 60)
    role = "ALTER ROLE ALL SET default_transaction_read_only"
    await query(restartable_postgres.url, f"{role} = on")
    await _break_connections(driver._database)
    with pytest.raises(QueueUnavailableError, match="read-only"):
        await driver.complete([job.lease])
    await query(restartable_postgres.url, "SET default_transaction_read_only = off", f"{role} = off")
    assert await driver.complete([job.lease]) == set()
    await driver.close()


async def test_a_connection_to_a_server_that_became_read_only_is_not_used_again(driver: DatabaseDriver) -> None:
    """The address may lead to the new primary by now, while the pool still holds the old one's connections."""
    statements = {
        "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
    }
    if (statement := statements.get(driver._database.dialect)) is None:
        pytest.skip("there is no server to SQLite")
    await driver._database.read(lambda connection: connection.exec_driver_sql(statement))
    await driver.push([NewJob("1", "default", b"{}")])
    assert await driver.size("default") == 1


async def _break_connections(database: Database) -> None:
    if database.dialect == "postgresql":
        mine = "datname = current_database() AND pid <> pg_backend_pid()"
        await query(database.url.text, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
    if database.dialect == "mysql":
        listed = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        await query(database.url.text, *[f"KILL {key}" for (key,) in await query(database.url.text, listed)])


async def test_work_that_raises_is_rolled_back(driver: DatabaseDriver) -> None:
    async def work(connection: AsyncConnection) -> None:
        await driver.push_within(connection, [NewJob("1", "default", b"{}")])
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await driver._database.write(work)
    assert await driver.size("default") == 0


async def test_writers_of_one_process_take_turns(driver: DatabaseDriver, other: DatabaseDriver) -> None:
    pushes = [
        each.push([NewJob(f"{number}-{each is driver}", "default", b"{}")])
        for number in range(40)
        for each in (driver, other)
    ]
    await asyncio.gather(*pushes)
    assert await driver.size("default") == 80


async def test_an_sqlite_file_is_made_with_its_directory_and_survives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "new" / "queue.sqlite3"
    database = Database(f"sqlite:///{path}", sqlite_synchronous="FULL")

    async def pragmas(connection: AsyncConnection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return {name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in names}

    assert await database.read(pragmas) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }
    assert path.exists()
    await database.close()


async def test_a_writer_waits_for_another_process_that_holds_sqlite(tmp_path: Path) -> None:
    driver = DatabaseDriver(Database(f"sqlite:///{tmp_path}/queue.sqlite3"), Events())
    await upgrade(driver._database)
    with closing(sqlite3.connect(tmp_path / "queue.sqlite3", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        push = asyncio.create_task(driver.push([NewJob("1", "default", b"{}")]))
        await asyncio.sleep(0)
        assert await driver.size("default") == 0
        another.execute("COMMIT")
    await push
    assert await driver.size("default") == 1
    await driver.close()


def test_who_has_no_use_for_a_database_does_not_import_one() -> None:
    code = (
        "import sys; from core.database.engine import Database; Database('postgresql://h/n'); "
        "sys.exit('sqlalchemy' in sys.modules or 'asyncpg' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
