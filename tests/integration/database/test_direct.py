"""What goes to the database's own library fails as SQLAlchemy's statements do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.direct import call
from core.database.engine import Database

Work = Callable[[Any], Awaitable[Any]]


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_database_url)
    if database.dialect == "mysql":
        pytest.skip("every statement goes through SQLAlchemy there")
    yield database
    await database.close()


async def test_an_integrity_error_is_sqlalchemys_and_the_connection_is_kept(database: Database) -> None:
    async def work(driver: Any) -> None:
        await driver.execute("INSERT INTO alembic_version VALUES (NULL)")

    error, is_given_up = await _failure(database, work)
    assert type(error) is IntegrityError
    assert not error.connection_invalidated
    assert not is_given_up
    await database.write(_delete)  # begins a transaction: none was left open


async def test_an_error_that_the_library_does_not_know_comes_out_as_it_is(database: Database) -> None:
    mistake = LookupError("not a database's")

    async def work(_driver: Any) -> NoReturn:
        raise mistake

    error, is_given_up = await _failure(database, work)
    assert error is mistake
    assert not is_given_up


async def test_a_dead_connection_is_given_up(database: Database) -> None:
    async def work(driver: Any) -> None:
        await driver.close()
        await driver.execute("DELETE FROM jobs")

    error, is_given_up = await _failure(database, work)
    assert isinstance(error, DBAPIError)
    assert error.connection_invalidated
    assert is_given_up


async def test_the_connection_of_a_cancelled_caller_is_given_up(database: Database) -> None:
    is_at_work = asyncio.Event()

    async def work(_driver: Any) -> None:
        is_at_work.set()
        await asyncio.Event().wait()

    failing = asyncio.create_task(_failure(database, work))
    await is_at_work.wait()
    failing.cancel()
    error, is_given_up = await failing
    assert type(error) is asyncio.CancelledError
    assert is_given_up


async def _failure(database: Database, work: Work) -> tuple[BaseException, bool]:
    """What `call` raises, and whether the pool has another connection after it."""
    async with database.engine.connect() as connection:
        before = await _driver(connection)
        with pytest.raises(BaseException) as caught:  # noqa: PT011, the tests tell which
            await call(connection, work)
    async with database.engine.connect() as connection:
        return caught.value, await _driver(connection) is not before


async def _driver(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def _delete(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("DELETE FROM jobs")
