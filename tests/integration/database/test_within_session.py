"""Dispatch within the app's own transaction: both are stored, or neither is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, create_engine, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.database.bound import bind, unbind
from core.database.engine import Database
from core.errors import DispatchError
from core.job import Job
from core.model import Model
from core.observability.events import Event, Events, JobsDispatched
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.memory import MemoryDriver
from core.queue.queue_manager import DispatchOptions, QueueManager, dispatch, queue
from core.queue.state import NewJob
from tests.handled import handle


class Order(Model):
    __tablename__ = "test_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


assert isinstance(Order.__table__, Table)
TABLE = Order.__table__
Model.metadata.remove(TABLE)  # it is no table of the app's, whose migrations other tests hold against its models


class SendInvoice(Job):
    order: str = ""


class Listening(DatabaseDriver):
    """Remembers what it announced, and what was pushed within a transaction."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, Events())
        self.announced: list[str] = []
        self.within: list[NewJob] = []

    async def push_within(self, connection: AsyncConnection, jobs: Sequence[NewJob]) -> Any:
        self.within += jobs
        return await super().push_within(connection, jobs)

    def announce(self, jobs: Sequence[NewJob]) -> None:
        self.announced += [job.job_id for job in jobs]
        super().announce(jobs)


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_database_url)
    async with database.engine.begin() as connection:
        await connection.run_sync(TABLE.create)
    bind(database)
    yield database
    unbind(database)
    await database.close()


@pytest.fixture
def driver(database: Database) -> Listening:
    return Listening(database)


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
async def manager(database: Database, driver: Listening, told: list[Event]) -> AsyncIterator[QueueManager]:
    events = Events()
    events.subscribe(Event, told.append)
    drivers = {"database": lambda: driver}
    manager = QueueManager(drivers, DispatchOptions("database"), database=database.url, events=events)
    await manager.open()
    yield manager
    await manager.close()


pytestmark = pytest.mark.usefixtures("manager")


async def orders() -> int:
    async with await Order.get_session() as session:
        return (await session.execute(select(func.count()).select_from(Order))).scalar_one()


async def stored() -> tuple[int, int]:
    """Orders and jobs."""
    return await orders(), await queue.size()


async def test_both_are_there_once_the_session_is_committed(driver: Listening, told: list[Event]) -> None:
    job = SendInvoice()
    async with await Order.get_session() as session:
        session.add(Order(item="pump"))
        job_id = await dispatch(job, session=session)
        assert (driver.announced, told) == ([], [])
        await session.commit()
    assert job.job_id == job_id
    assert await stored() == (1, 1)
    assert (driver.announced, told) == ([job_id], [JobsDispatched("default", 1)])
    (fetched,) = await driver.fetch(["default"], 10, 60.0)
    assert fetched.job_id == job_id


@pytest.mark.parametrize("end", ["rollback", "close", "leave", "raise"])
async def test_neither_is_there_once_the_session_is_rolled_back(driver: Listening, told: list[Event], end: str) -> None:
    session = await Order.get_session()
    try:
        async with session:
            session.add(Order(item="pump"))
            await session.flush()
            await dispatch(SendInvoice(), session=session)
            if end == "raise":
                raise LookupError("on purpose")
            if end != "leave":
                await getattr(session, end)()
    except LookupError:
        pass
    assert await stored() == (0, 0)
    assert (driver.announced, told) == ([], [])
    async with session:  # used again, it tells of nothing that is gone
        session.add(Order(item="valve"))
        await session.commit()
    assert (driver.announced, told) == ([], [])


async def test_each_transaction_of_a_session_is_told_of_once(driver: Listening) -> None:
    ids = []
    async with await Order.get_session() as session:
        for _ in range(3):
            ids.append(await dispatch(SendInvoice(), session=session))
            ids.append(await queue.push(SendInvoice(), session=session))
            await session.commit()
            assert driver.announced == ids
    assert await stored() == (0, 6)


async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along_and_no_others(driver: Listening) -> None:
    async with await Order.get_session() as session:
        kept = [await dispatch(SendInvoice(), session=session)]
        savepoint = await session.begin_nested()
        await dispatch(SendInvoice(), session=session)
        await savepoint.rollback()
        async with session.begin_nested():
            async with session.begin_nested():
                kept.append(await dispatch(SendInvoice(), session=session))
            kept.append(await dispatch(SendInvoice(), session=session))
        assert driver.announced == []
        await session.commit()
    assert sorted(driver.announced) == sorted(kept)
    assert await queue.size() == 3


async def test_a_savepoint_that_is_released_is_lost_with_what_is_around_it(driver: Listening) -> None:
    async with await Order.get_session() as session:
        async with session.begin_nested():
            await dispatch(SendInvoice(), session=session)
        await session.rollback()
        await session.commit()
    assert driver.announced == []
    assert await queue.size() == 0


async def test_a_worker_sees_no_job_of_a_transaction_that_is_open(driver: Listening) -> None:
    async with await Order.get_session() as session:
        await dispatch(SendInvoice(), session=session)
        assert await queue.size() == 0
        await session.commit()
    assert await queue.size() == 1


async def test_keys_delay_and_queue_go_along(driver: Listening) -> None:
    class Keyed(SendInvoice):
        ordering_key = "order"

    async with await Order.get_session() as session:
        await dispatch(Keyed(order="7"), session=session, unique_for=60, unique_by="7", delay=5, queue="other")
        await session.commit()
    (new,) = driver.within
    assert (new.ordering_key, new.unique_for, new.delay, new.queue) == ("7", 60.0, 5.0, "other")
    assert new.unique_key
    assert (await queue.stats("other")).scheduled == 1


async def test_the_job_that_stands_for_one_is_told_and_nothing_is_stored(driver: Listening, told: list[Event]) -> None:
    async with await Order.get_session() as session:
        older = await dispatch(SendInvoice(), session=session, unique_for=60)
        job = SendInvoice()
        assert await dispatch(job, session=session, unique_for=60) == older == job.job_id
        await session.commit()
    assert await queue.size() == 1
    assert [type(event).__name__ for event in told] == ["JobDeduplicated", "JobsDispatched"]


async def test_what_fails_after_the_commit_leaves_it_standing(
    driver: Listening, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(jobs: Sequence[NewJob]) -> None:
        raise RuntimeError("no channel")

    monkeypatch.setattr(driver, "announce", raising)
    async with await Order.get_session() as session:
        await dispatch(SendInvoice(), session=session)
        await session.commit()
    assert await queue.size() == 1
    assert "its outcome stands" in caplog.text


async def test_an_engine_of_the_apps_own_to_the_same_database_will_do(database: Database) -> None:
    engine = create_async_engine(database.url.text)
    try:
        async with AsyncSession(engine) as session:
            session.add(Order(item="pump"))
            await dispatch(SendInvoice(), session=session)
            await session.commit()
        async with AsyncSession(engine) as session:
            await dispatch(SendInvoice(), session=session)
    finally:
        await engine.dispose()
    assert await stored() == (1, 1)


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────────────


async def refused(session: Any) -> str:
    with pytest.raises(DispatchError) as caught:
        await dispatch(SendInvoice(), session=session)
    assert await queue.size() == 0
    return str(caught.value)


async def test_a_session_of_another_database_is_refused(database: Database, tmp_path: Path) -> None:
    other = f"sqlite+aiosqlite:///{tmp_path}/other.sqlite3"
    if database.dialect != "sqlite":
        other = make_url(database.url.text).set(database="another").render_as_string(hide_password=False)
    engine = create_async_engine(other)
    try:
        text = await refused(AsyncSession(engine))
    finally:
        await engine.dispose()
    assert f"and the queues are in {database.address}: they share no transaction" in text
    assert "other" in text.partition("queues")[0]
    assert "Model.get_session()" in text


async def test_a_session_that_is_not_async_is_refused() -> None:
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        assert "needs an AsyncSession, and what it was given is not async." in await refused(session)
    engine.dispose()


@pytest.mark.parametrize("given", ["a session", object()], ids=["text", "object"])
async def test_what_is_no_session_is_refused(given: Any) -> None:
    assert f"is a {type(given).__name__}. Take one of `await Model.get_session()`" in await refused(given)


async def test_a_session_without_a_database_is_refused() -> None:
    assert "cannot tell the session's database" in await refused(AsyncSession())


async def test_queues_that_are_in_no_database_refuse_it() -> None:
    def memory() -> Driver:
        return MemoryDriver()

    manager = QueueManager({"memory": memory}, DispatchOptions("memory"))
    async with await Order.get_session() as session:
        with pytest.raises(DispatchError, match="QUEUE_CONNECTION=memory keeps jobs elsewhere"):
            await manager.push(SendInvoice(), session=session)
    assert await manager.size() == 0


async def test_nothing_is_done_to_the_session_of_a_job_that_cannot_be_stored(driver: Listening) -> None:
    job: Any = SendInvoice()
    job.order = 7
    async with await Order.get_session() as session:
        session.add(Order(item="pump"))
        with pytest.raises(DispatchError, match="Nothing was stored"):
            await dispatch(job, session=session)
        await session.commit()
    assert await stored() == (1, 0)


class Raised(Exception):
    """By a controller, once its work is done."""


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_controller_that_raises_after_its_commit_dispatches_once(driver: Listening, is_done: bool) -> None:
    """Even if the job is done by the time that the controller is called again."""
    ids = list[str]()

    async def controller() -> None:
        async with await Order.get_session() as session:
            ids.append(await dispatch(SendInvoice(order="1"), session=session))
            await session.commit()
        if len(ids) == 1:
            if is_done:
                (fetched,) = await driver.fetch(["default"], 10, 60.0)
                await driver.complete([fetched.lease])
            raise Raised

    await handle(controller)
    assert ids == [ids[0]] * 2
    assert await queue.size() == (0 if is_done else 1)
    assert len(driver.within) == 1


async def test_a_controller_whose_transaction_was_rolled_back_dispatches_again(driver: Listening) -> None:
    ids = list[str]()

    async def controller() -> None:
        async with await Order.get_session() as session:
            ids.append(await dispatch(SendInvoice(order="1"), session=session))
            if len(ids) == 1:
                raise Raised
            await session.commit()

    await handle(controller)
    assert ids == [ids[0]] * 2
    assert await queue.size() == 1


async def test_a_controller_that_has_rolled_back_before_it_committed_dispatches_once(driver: Listening) -> None:
    """What it is told of stands for the next try, and not what was rolled back."""
    tries = count()

    async def controller() -> None:
        is_first = next(tries) == 0
        async with await Order.get_session() as session:
            if is_first:
                await dispatch(SendInvoice(order="1"), session=session)
                await session.rollback()
            await dispatch(SendInvoice(order="1"), session=session)
            await session.commit()
        if is_first:
            raise Raised

    await handle(controller)
    assert await queue.size() == 1
    assert len(driver.within) == 2


async def test_a_controller_that_raises_is_told_of_the_same_job_that_stands_for_its_own(driver: Listening) -> None:
    ids = list[str]()
    held = await dispatch(SendInvoice(order="1"), unique_for=60)

    async def controller() -> None:
        async with await Order.get_session() as session:
            ids.append(await dispatch(SendInvoice(order="1"), session=session, unique_for=60))
            await session.commit()
        if len(ids) == 1:
            raise Raised

    await handle(controller)
    assert ids == [held, held]
    assert len(driver.within) == 1


async def test_a_transaction_around_the_sessions_own_decides(database: Database, driver: Listening) -> None:
    """A session that joins one does not end it by its commit."""
    ids = list[str]()

    async def controller() -> None:
        async with database.engine.begin() as connection:
            async with AsyncSession(bind=connection) as session:
                ids.append(await dispatch(SendInvoice(order="1"), session=session))
                await session.commit()
            if len(ids) == 1:
                raise Raised

    await handle(controller)
    assert ids == [ids[0]] * 2
    assert await queue.size() == 1
    assert driver.announced == ids


async def test_a_controller_whose_first_transaction_fails_in_each_try_dispatches_once(driver: Listening) -> None:
    tries, ids = count(), list[str]()

    async def controller() -> None:
        is_first = next(tries) == 0
        for fails in (True, False):
            with suppress(ValueError):
                async with await Order.get_session() as session:
                    ids.append(await dispatch(SendInvoice(order="1"), session=session))
                    if fails:
                        raise ValueError("on purpose")
                    await session.commit()
        if is_first:
            raise Raised

    await handle(controller)
    assert ids == [ids[0]] * 4
    assert await queue.size() == 1


async def test_two_that_are_alike_are_two_also_when_their_transaction_is_repeated(driver: Listening) -> None:
    tries = count()

    async def controller() -> None:
        is_first = next(tries) == 0
        for fails in (True, False):
            async with await Order.get_session() as session:
                for _ in range(2):
                    await dispatch(SendInvoice(order="1"), session=session)
                await (session.rollback() if fails else session.commit())
        if is_first:
            raise Raised

    await handle(controller)
    assert await queue.size() == 2


async def test_two_that_are_alike_are_two_after_one_was_rolled_back_twice(driver: Listening) -> None:
    tries = count()

    async def controller() -> None:
        if next(tries) == 0:
            for _ in range(2):
                async with await Order.get_session() as session:
                    await dispatch(SendInvoice(order="1"), session=session)
            raise Raised
        async with await Order.get_session() as session:
            for _ in range(2):
                await dispatch(SendInvoice(order="1"), session=session)
            await session.commit()

    await handle(controller)
    assert await queue.size() == 2


async def test_a_savepoint_that_is_rolled_back_gives_its_job_back(driver: Listening) -> None:
    ids = list[str]()

    async def controller() -> None:
        async with await Order.get_session() as session:
            savepoint = await session.begin_nested()
            ids.append(await dispatch(SendInvoice(order="1"), session=session))
            await savepoint.rollback()
            ids.append(await dispatch(SendInvoice(order="1"), session=session))
            await session.commit()

    await handle(controller)
    assert ids == [ids[0]] * 2
    assert await queue.size() == 1
