"""The look at a database without SQLAlchemy: it may say nothing, and must not say what is not so."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from core.database import quick_look
from core.database.engine import Database
from core.database.migrations import looks_current, rollback, status, upgrade
from core.database.quick_look import applied_revisions
from core.database.url import parse_url
from tests.servers.databases import query


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take more than a second to connect, and then the look says nothing."""
    monkeypatch.setattr(quick_look, "_SECONDS", 30.0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def test_it_sees_what_is_applied(database: Database) -> None:
    assert not await looks_current(database.url)
    revisions = await upgrade(database)
    # MySQL's driver takes no URL: there, the longer look is taken.
    assert await applied_revisions(database.url) == (None if database.dialect == "mysql" else {revisions[-1]})
    assert await looks_current(database.url) == (database.dialect != "mysql")
    await rollback(database)
    assert not await looks_current(database.url)
    assert [each.applied for each in await status(database)][-1] is False


async def test_a_newer_schema_is_left_to_the_longer_look(database: Database, database_url: str) -> None:
    await upgrade(database)
    await query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert not await looks_current(database.url)


async def test_it_makes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite3"
    assert await applied_revisions(parse_url(f"sqlite:///{file}")) is None
    assert not file.exists()


async def test_it_does_not_wait_for_a_file_that_is_in_use(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite3"
    database = Database(f"sqlite:///{file}")
    await upgrade(database)
    await database.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("PRAGMA locking_mode = EXCLUSIVE")
        another.execute("BEGIN EXCLUSIVE")
        assert not await looks_current(database.url)
    assert await looks_current(database.url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:a/b@127.0.0.1:1/name",  # asyncpg would take the password for a port
        "postgresql://user@127.0.0.1:1/name?ssl=require",
        "postgresql://user@127.0.0.1:1/name",  # nobody is there
    ],
)
async def test_of_what_it_cannot_reach_it_says_nothing(url: str) -> None:
    assert await applied_revisions(parse_url(url)) is None
