"""How a push reaches an idle worker of another process; the contract suite tests what all drivers share."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from core.clock import Backoff
from core.database.engine import Database
from core.database.migrations import upgrade
from core.observability.events import Event, Events, StoreBack, StoreLost
from core.queue.driver import WakeUp
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.wake_up.postgresql import Listener, Notifier, PostgresqlChannel
from core.queue.drivers.wake_up.sqlite import SqliteLookout
from core.queue.state import NewJob
from tests.servers.databases import Databases, query
from tests.servers.kinds import Servers

ROOT = Path(__file__).parents[3]
PUSH = """
import asyncio, sys
from core.database.engine import Database
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.state import NewJob

async def main():
    driver = DatabaseDriver(Database(sys.argv[1]), Events())
    await driver.push([NewJob("1", "default", b"{}")])
    await driver.close()

asyncio.run(main())
"""
LONG = 30
MANY = 100


@pytest.fixture
async def postgres_url(servers: Servers) -> AsyncIterator[str]:
    server: Databases = servers.get("named-postgres" if "TEST_POSTGRES_URL" in os.environ else "postgres")
    url = await server.create_migrated()
    yield url
    await server.drop(url)


@pytest.fixture
async def wake_up(driver: DatabaseDriver) -> AsyncIterator[WakeUp]:
    wake_up = driver.wake_up(["default"])
    yield wake_up
    await wake_up.close()


async def _quiet(wake_up: WakeUp) -> None:
    while await wake_up.wait(0.3):
        pass


async def test_a_process_that_pushes_once_and_ends_is_heard(driver: DatabaseDriver, wake_up: WakeUp) -> None:
    await _quiet(wake_up)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUSH, driver._database.url.text, cwd=ROOT)
    assert await wake_up.wait(LONG)
    assert await process.wait() == 0
    assert len(await driver.fetch(["default"], 1, 60)) == 1


async def test_what_others_finish_wakes_nobody(driver: DatabaseDriver, other: DatabaseDriver, wake_up: WakeUp) -> None:
    await driver.push([NewJob(str(number), "default", b"{}") for number in range(3)])
    jobs = await driver.fetch(["default"], 3, 60)
    await _quiet(wake_up)
    for job in jobs:
        await other.complete([job.lease])
    assert not await wake_up.wait(0.1)


async def test_pushes_of_a_burst_share_notifications(postgres_url: str) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    listener = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    await listener.add_listener("routemq_push", lambda *arguments: heard.put_nowait(arguments[-1]))
    driver = DatabaseDriver(Database(postgres_url), Events())
    await driver.push([NewJob(f"{number}", "default", b"{}") for number in range(100)])
    await asyncio.gather(*(driver.push([NewJob(f"more-{number}", "default", b"{}")]) for number in range(50)))
    await driver.close()
    await listener.execute("SELECT 1")
    assert 1 <= heard.qsize() <= 51
    assert await heard.get() == "default"
    await listener.close()


async def test_a_push_after_a_pause_carries_its_notification(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Notifier, "notify", lambda *_: None)
    driver, other = DatabaseDriver(Database(postgres_url), Events()), DatabaseDriver(Database(postgres_url), Events())
    wake_up = other.wake_up(["default"])
    await _quiet(wake_up)
    for count in (1, MANY):  # each is written in its own way
        monkeypatch.setattr(driver._channel, "_notifier", Notifier(driver._database))
        await driver.push([NewJob(f"{count}-{number}", "default", b"{}") for number in range(count)])
        assert await wake_up.wait(LONG)
        await _quiet(wake_up)
    for each in (driver, other):
        await each.close()


async def test_the_last_push_of_a_burst_is_announced(postgres_url: str) -> None:
    driver, other = DatabaseDriver(Database(postgres_url), Events()), DatabaseDriver(Database(postgres_url), Events())
    wake_up = other.wake_up(["default"])
    await _quiet(wake_up)
    for number in range(20):
        await driver.push([NewJob(f"{number}", "default", b"{}")])
        while not await other.fetch(["default"], 1, 60):
            assert await wake_up.wait(LONG)
    await wake_up.close()
    await driver.close()
    await other.close()


async def test_a_listener_whose_connection_is_cut_listens_again(postgres_url: str) -> None:
    told: list[Event] = []
    events = Events()
    events.subscribe(StoreLost, told.append)
    events.subscribe(StoreBack, told.append)
    driver = DatabaseDriver(Database(postgres_url), events)
    wake_up = driver.wake_up(["default"])
    await _quiet(wake_up)
    mine = "datname = current_database() AND query LIKE 'LISTEN%'"
    assert await query(postgres_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
    assert await wake_up.wait(LONG)  # it tells that something may have been missed
    assert [type(each) for each in told] == [StoreLost, StoreBack]
    other = DatabaseDriver(Database(postgres_url), Events())
    await _quiet(wake_up)
    await other.push([NewJob("1", "default", b"{}")])
    assert await wake_up.wait(LONG)
    for each in (driver, other):
        await each.close()


async def test_options_of_the_url_that_are_the_engines_own_do_not_keep_the_listener_off(
    postgres_url: str,
) -> None:
    """It is what a pgbouncer in between asks for."""
    lost: list[StoreLost] = []
    events = Events()
    events.subscribe(StoreLost, lost.append)
    driver = DatabaseDriver(Database(f"{postgres_url}?prepared_statement_cache_size=0"), events)
    other = DatabaseDriver(Database(postgres_url), Events())
    wake_up = driver.wake_up(["default"])
    assert await wake_up.wait(LONG)
    await _quiet(wake_up)
    await other.push([NewJob("1", "default", b"{}")])
    assert await wake_up.wait(LONG)
    assert lost == []
    for each in (driver, other):
        await each.close()


async def test_the_listener_leaves_the_pool_to_others(postgres_url: str) -> None:
    driver = DatabaseDriver(Database(postgres_url, pool_size=1), Events())
    wake_up = driver.wake_up(["default"])
    assert await wake_up.wait(LONG)
    async with asyncio.timeout(10):
        assert await driver.size("default") == 0
    await driver.close()


async def test_no_error_ends_the_listener(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listen, errors = Listener._listen, [TypeError("unexpected")]

    async def fails_once(self: Listener, backoff: Backoff) -> None:
        if errors:
            raise errors.pop()
        await listen(self, backoff)

    monkeypatch.setattr(Listener, "_listen", fails_once)
    driver = DatabaseDriver(Database(postgres_url), Events())
    wake_up = driver.wake_up(["default"])
    assert await wake_up.wait(LONG)
    await driver.close()


async def test_no_error_ends_the_notifier(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    send, errors = Notifier._send, [TypeError("unexpected")]

    async def fails_once(self: Notifier, queues: set[str]) -> None:
        if errors:
            raise errors.pop()
        await send(self, queues)

    monkeypatch.setattr(Notifier, "_send", fails_once)
    driver, other = DatabaseDriver(Database(postgres_url), Events()), DatabaseDriver(Database(postgres_url), Events())
    wake_up = other.wake_up(["default"])
    await _quiet(wake_up)
    driver._channel.announce(["default"])
    assert await wake_up.wait(LONG)
    assert not errors
    for each in (driver, other):
        await each.close()


async def test_an_announcement_outlives_an_outage(postgres_url: str) -> None:
    """The trailing notification is sent again until the server has it, as long as the process lives."""
    channel = PostgresqlChannel(database := Database(postgres_url), Events())
    other = DatabaseDriver(Database(postgres_url), Events())
    wake_up = other.wake_up(["default"])
    assert await wake_up.wait(LONG)  # as it listens from now on
    await _quiet(wake_up)
    reachable = database.url
    database.url = Database("postgresql://127.0.0.1:1/x").url
    channel.announce(["default"])
    assert not await wake_up.wait(0.3)
    await database.close()
    database.url = reachable
    assert await wake_up.wait(LONG)
    await channel.close()
    await database.close()
    await other.close()


async def test_a_lookout_over_a_file_that_is_not_there_yet_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    lookout = SqliteLookout(path, ["default"])
    assert not await lookout.sees_push()
    assert not path.exists()
    driver = DatabaseDriver(Database(f"sqlite:///{path}"), Events())
    await upgrade(driver._database)
    await lookout.sees_push()
    assert not await lookout.sees_push()
    await driver.push([NewJob("1", "default", b"{}")])
    assert await lookout.sees_push()
    assert not await lookout.sees_push()
    lookout.close()
    await driver.close()


async def test_a_lookout_sees_what_was_handed_back_between_two_looks(tmp_path: Path) -> None:
    driver = DatabaseDriver(Database(f"sqlite:///{tmp_path}/queue.sqlite3"), Events())
    await upgrade(driver._database)
    lookout, elsewhere = (SqliteLookout(tmp_path / "queue.sqlite3", [queue]) for queue in ("default", "elsewhere"))
    await driver.push([NewJob("1", "default", b"{}")])
    assert await lookout.sees_push() and await elsewhere.sees_push()
    await driver.release([job.lease for job in await driver.fetch(["default"], 1, 60)])
    assert await lookout.sees_push() and not await elsewhere.sees_push()
    assert not await lookout.sees_push()
    for each in (lookout, elsewhere):
        each.close()
    await driver.close()
