"""Models: the app's own tables, beside the queue's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from app.models.queue_failed_job import QueueFailedJob, cleanup_old_failed_jobs
from core.database.bound import bind, unbind
from core.database.engine import Database
from core.errors import NotRunningError, UnavailableError
from core.model import Model
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.failures import DatabaseFailureStore
from core.queue.state import Failure, NewJob
from tests.servers.databases import query
from tests.servers.postgres import PostgresProcess


class Gauge(Model):
    __tablename__ = "test_gauges"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    seen_at: Mapped[datetime]
    value: Mapped[float] = mapped_column(default=0.0)
    image: Mapped[bytes] = mapped_column(default=b"")
    extra: Mapped[dict[str, Any] | None]


assert isinstance(Gauge.__table__, Table)
TABLE = Gauge.__table__
Model.metadata.remove(TABLE)  # it is no table of the app's, whose migrations other tests hold against its models

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(TABLE.create)
    bind(database)
    yield database
    unbind(database)
    await database.close()


async def test_a_row_is_stored_found_and_listed(database: Database) -> None:
    gauge = await Gauge.create(name="a", seen_at=NOW, image=bytes(range(256)) * 400, extra={"unit": "°C"})
    await Gauge.create(name="b", seen_at=NOW)
    found = await Gauge.find(gauge.id)
    assert found is not None
    assert (found.name, found.value, found.image) == ("a", 0.0, bytes(range(256)) * 400)
    assert found.extra == {"unit": "°C"}
    assert await Gauge.find(-1) is None
    assert sorted(each.name for each in await Gauge.all()) == ["a", "b"]


async def test_pitfall_21_a_moment_keeps_its_microseconds_and_its_zone(database: Database) -> None:
    gauge = await Gauge.create(name="a", seen_at=NOW.astimezone())
    assert gauge.seen_at == NOW
    assert gauge.seen_at.utcoffset() == timedelta(0)


async def test_what_is_not_committed_is_rolled_back(database: Database) -> None:
    async with await Model.get_session() as session:
        session.add(Gauge(name="a", seen_at=NOW))
        await session.flush()
    assert await Gauge.all() == []


async def test_sessions_that_read_and_then_write_do_not_lock_each_other_out(database: Database) -> None:
    gauge = await Gauge.create(name="a", seen_at=NOW)

    async def change(number: int) -> None:
        async with await Model.get_session() as session:
            row = await session.get_one(Gauge, gauge.id)
            row.value = number
            await session.commit()

    await asyncio.gather(*(change(number) for number in range(1, 9)))
    changed = await Gauge.find(gauge.id)
    assert changed is not None
    assert changed.value in range(1, 9)


async def test_a_session_that_only_read_does_not_hold_up_a_dispatch(database: Database) -> None:
    await Gauge.create(name="a", seen_at=NOW)
    driver = DatabaseDriver(database, Events())
    async with await Model.get_session() as session:
        for gauge in await session.scalars(select(Gauge)):
            await driver.push([NewJob(f"job-{gauge.id}", "default", b"{}")])
    assert await driver.size("default") == 1


async def test_a_job_can_be_pushed_within_a_session(database: Database) -> None:
    driver = DatabaseDriver(database, Events())
    for name, commits in (("kept", True), ("dropped", False)):
        async with await Model.get_session() as session:
            session.add(Gauge(name=name, seen_at=NOW))
            await session.flush()
            await driver.push_within(await session.connection(), [NewJob(name, "default", b"{}")])
            if commits:
                await session.commit()
    assert [job.job_id for job in await driver.fetch(["default"], 5, 60)] == ["kept"]
    assert [gauge.name for gauge in await Gauge.all()] == ["kept"]


async def test_without_an_application_models_say_so() -> None:
    with pytest.raises(NotRunningError, match=r"Application"):
        await Model.get_session()
    with pytest.raises(NotRunningError):
        await cleanup_old_failed_jobs()


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
async def test_a_database_that_is_away_is_unavailable(dialect: str) -> None:
    """A controller that lets this pass is run again once the database is back, and has used up none of its tries."""
    away = Database(f"{dialect}://user@127.0.0.1:1/x")
    bind(away)
    try:
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
            await Gauge.find(1)
        with pytest.raises(UnavailableError):
            await Gauge.create(name="a", seen_at=NOW)
        with pytest.raises(UnavailableError):
            async with await Model.get_session() as session:
                await session.scalars(select(Gauge))
    finally:
        unbind(away)
        await away.close()


@pytest.mark.parametrize("asks_again", [True, False])
async def test_a_database_that_goes_away_within_a_session_is_unavailable(
    restartable_postgres: PostgresProcess, asks_again: bool
) -> None:
    database = Database(restartable_postgres.url)

    async def use() -> None:
        async with database.session() as session:
            await session.execute(select(1))
            restartable_postgres.kill()
            if asks_again:
                await session.execute(select(1))

    with pytest.raises(UnavailableError, match=str(restartable_postgres.port)):
        await use()
    await database.close()


async def test_other_errors_of_a_session_are_the_apps(database: Database) -> None:
    await Gauge.create(name="a", seen_at=NOW)
    with pytest.raises(IntegrityError):
        await Gauge.create(name="a", seen_at=NOW)
    for error in (ConnectionResetError("of the app's own"), KeyError("a")):
        with pytest.raises(type(error), match="a"):
            async with await Model.get_session():
                raise error


async def test_failed_jobs_are_a_model_and_old_ones_can_be_deleted(
    database: Database, migrated_database_url: str
) -> None:
    store = DatabaseFailureStore(database)
    await store.record("redis", [Failure("old", "q", "J", b"\xff", "E", 3), Failure("new", "q", "J", b"{}", "E", 3)])
    await query(
        migrated_database_url,
        "UPDATE failed_jobs SET failed_at = '2020-01-01 00:00:00.000000' WHERE job_id = 'old'",
    )
    old, new = sorted(await QueueFailedJob.all(), key=lambda row: row.failed_at)
    assert (old.job_id, old.payload, old.connection) == ("old", b"\xff", "redis")
    assert old.failed_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert datetime.now(UTC) - new.failed_at < timedelta(minutes=5)
    assert await cleanup_old_failed_jobs(days=30) == 1
    assert [row.job_id for row in await QueueFailedJob.all()] == ["new"]


async def test_what_a_savepoint_released_is_gone_with_the_session_that_is_rolled_back(database: Database) -> None:
    async with await Gauge.get_session() as session:
        async with session.begin_nested():
            session.add(Gauge(name="inside", seen_at=NOW))
        await session.rollback()
    assert await Gauge.all() == []
