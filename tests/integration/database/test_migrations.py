"""The schema: made, taken back, made by two at once, and asked for by every role."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from core.database.engine import Database
from core.database.migrations import _LOCKS, require_current, rollback, status, upgrade
from core.database.tables import metadata
from core.errors import QueueUnavailableError, SchemaOutdatedError
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.state import NewJob
from tests.servers.databases import query

ROOT = Path(__file__).parents[3]
MIGRATE = """
import asyncio, sys
from core.database.engine import Database
from core.database.migrations import upgrade

async def main():
    database = Database(sys.argv[1])
    await upgrade(database)
    await database.close()

asyncio.run(main())
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def _tables(database: Database) -> set[str]:
    return set(await database.read(lambda each: each.run_sync(lambda sync: inspect(sync).get_table_names())))


async def test_no_server_has_anything_to_say_to_the_migrations(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """MariaDB does, for one, where a primary key is given a name; its driver logs it."""
    await upgrade(database)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_schema_is_made_and_taken_back(database: Database) -> None:
    revisions = await upgrade(database)
    assert revisions[0] == "0001"
    assert {"jobs", "failed_jobs"} <= await _tables(database)
    assert await upgrade(database) == []
    for revision in reversed(revisions):
        assert await rollback(database) == revision
    assert await rollback(database) is None
    assert await _tables(database) <= {"alembic_version"}
    assert await upgrade(database) == revisions


async def test_the_status_tells_what_is_applied(database: Database) -> None:
    assert not any(each.applied for each in await status(database))
    await upgrade(database)
    first, *_ = migrations = await status(database)
    assert all(each.applied for each in migrations)
    assert (first.revision, first.description) == ("0001", "The queue's tables: jobs and failed_jobs.")
    await rollback(database)
    assert [each.applied for each in await status(database)] == [True] * (len(migrations) - 1) + [False]


async def test_an_old_schema_is_refused_with_the_command(database: Database) -> None:
    with pytest.raises(SchemaOutdatedError, match=r"0001.*python main\.py --migrate"):
        await require_current(database)
    await upgrade(database)
    await require_current(database)


async def test_a_missing_table_is_told_with_the_command(database: Database) -> None:
    with pytest.raises(SchemaOutdatedError, match=r"python main\.py --migrate"):
        await DatabaseDriver(database, Events()).fetch(["default"], 1, 10)


async def test_a_schema_of_a_newer_version_is_let_pass(database: Database, database_url: str) -> None:
    await upgrade(database)
    await query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    await require_current(database)


async def test_jobs_that_wait_for_their_turn_are_let_through_where_an_older_version_is_to_work(
    database: Database,
) -> None:
    revisions = await upgrade(database)
    driver = DatabaseDriver(database, Events())
    line = [NewJob(f"{number}", "default", b"{}", ordering_key="pump-7") for number in range(3)]
    await driver.push(line)
    while await rollback(database) != "0003":
        pass
    rows = await query(database.url.text, "SELECT job_id FROM jobs ORDER BY available_at, id")
    assert [job_id for (job_id,) in rows] == ["0", "1", "2"]
    assert set(await upgrade(database)) == set(revisions[revisions.index("0003") :])
    assert [job.job_id for job in await driver.fetch(["default"], 10, 60)] == ["0", "1", "2"]


async def test_processes_that_migrate_at_once_take_turns(database: Database) -> None:
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", MIGRATE, database.url.text, cwd=ROOT)
        for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    await require_current(database)


async def test_a_migration_may_take_longer_than_other_answers(database: Database) -> None:
    hurried = Database(database.url.text, answer_timeout=0.001)
    revisions = await upgrade(hurried)
    assert await rollback(hurried) == revisions[-1]
    await hurried.close()


async def test_who_waits_in_vain_for_another_migration_does_not_join_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.dialect != "mysql":
        pytest.skip("others wait as long as the connection does")
    take, give_back = _LOCKS["mysql"]
    monkeypatch.setitem(_LOCKS, "mysql", (take.replace("600", "0"), give_back))
    async with database.engine.connect() as another:
        await another.exec_driver_sql(take)
        with pytest.raises(QueueUnavailableError, match="another process migrates"):
            await upgrade(database)
        assert await _tables(database) == set()
        await another.exec_driver_sql(give_back)
    await upgrade(database)


async def test_an_interrupted_migration_is_finished_by_the_next(database: Database, database_url: str) -> None:
    """MySQL commits each table by itself, so a kill leaves a part of them and no record of it."""
    await upgrade(database)
    await query(
        database_url,
        "DROP TABLE failed_jobs",
        "DROP INDEX ix_jobs_next" + (" ON jobs" if database.dialect == "mysql" else ""),
        "DELETE FROM alembic_version",
        *(f"DROP TABLE {name}" for name in await _tables(database) - {"jobs", "failed_jobs", "alembic_version"}),
    )
    await upgrade(database)
    await require_current(database)
    assert await _differences(database) == []


async def test_the_migrations_make_the_tables_that_the_code_describes(database: Database) -> None:
    await upgrade(database)
    assert await _differences(database) == []


async def test_alembic_finds_settings_and_models(database: Database) -> None:
    """`alembic check` compares app/models with the database, as `alembic revision --autogenerate` does."""
    await upgrade(database)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "check"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database.url.text},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert (process.returncode, output.decode().splitlines()[-1:]) == (0, ["No new upgrade operations detected."])


async def _differences(database: Database) -> list[object]:
    def compare(connection: Connection) -> list[object]:
        ours = {"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        return list(compare_metadata(MigrationContext.configure(connection, opts=ours), metadata))

    return await database.read(lambda connection: connection.run_sync(compare))
