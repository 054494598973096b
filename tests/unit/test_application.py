"""The composition root: what it opens is closed again, whatever goes wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core import application
from core.application import Application
from core.database.bound import bound_database
from core.errors import NotRunningError, UnavailableError
from core.mqtt.message import IncomingMessage
from core.queue.queue_manager import QueueManager, current
from core.redis_manager import redis_manager
from core.router import Router
from core.settings import load_settings


@pytest.fixture
def app(tmp_path: Path) -> Application:
    database = {"url": f"sqlite:///{tmp_path}/queue.sqlite3"}
    redis = {"url": "redis://127.0.0.1:1"}
    return Application(load_settings(None, queue={"connection": "memory"}, database=database, redis=redis))


@pytest.fixture
def closed(app: Application, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was closed."""
    closed: list[str] = []
    for name, part in (("redis", app._text_redis), ("database", app.database)):
        method = "aclose" if name == "redis" else "close"
        original = getattr(part, method)

        async def close(name: str = name, original: Any = original) -> None:
            closed.append(name)
            await original()

        monkeypatch.setattr(part, method, close)
    return closed


def assert_nothing_is_bound() -> None:
    with pytest.raises(NotRunningError):
        current()
    with pytest.raises(NotRunningError):
        bound_database()
    assert not redis_manager.is_configured


async def test_leaving_closes_everything(app: Application, closed: list[str]) -> None:
    async with app:
        assert current() is app.queues
    assert closed == ["redis", "database"]
    assert_nothing_is_bound()


async def test_what_cannot_be_closed_leaves_the_others_closed(
    app: Application, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = QueueManager.close

    async def failing(self: QueueManager) -> None:
        await close(self)
        raise UnavailableError("the last write found no store")

    monkeypatch.setattr(QueueManager, "close", failing)
    with pytest.raises(UnavailableError):
        async with app:
            pass
    assert closed == ["redis", "database"]
    assert_nothing_is_bound()


async def test_what_cannot_be_opened_leaves_nothing_open(
    app: Application, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: QueueManager) -> None:
        raise UnavailableError("no")

    monkeypatch.setattr(QueueManager, "open", failing)
    with pytest.raises(UnavailableError):
        await app.__aenter__()
    assert closed == ["redis", "database"]
    assert_nothing_is_bound()


# ── at start ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """Of a server that takes connections and never says a word, as a proxy before a frozen machine does."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_we_were_told(
    silent_port: int, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(application, "_ANSWER_IN", 0.05)
    where = f"127.0.0.1:{silent_port}"
    app = Application(load_settings(None, database={"url": f"{scheme}://user:secret@{where}/name"}))
    async with app, asyncio.timeout(5):
        with pytest.raises(UnavailableError, match=where) as caught:
            await app.wait_until_ready(0.2)
    assert "gave no answer within" in str(caught.value)
    assert str(caught.value).endswith("Gave up after 0.2 s.")
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_there_is_reached_without_any_time_to_wait(app: Application) -> None:
    async with app:
        await app.wait_for_database(0)


async def test_controllers_in_threads_leave_those_of_the_event_loop_to_the_client(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    router, go_on = Router(), threading.Event()
    router.on("a", lambda: go_on.wait(20))
    monkeypatch.setattr("core.discovery.find_objects", lambda *_: [router])
    async with app:
        handler = app.message_handler()
        handling = [asyncio.create_task(handler.handle(IncomingMessage("a", b""))) for _ in range(100)]
        try:
            await asyncio.sleep(0.1)
            await asyncio.wait_for(asyncio.to_thread(int), 5)
        finally:
            go_on.set()
            await asyncio.gather(*handling)


@pytest.mark.parametrize("default", ["default", "rest"])
async def test_a_message_that_failed_goes_where_jobs_go_that_name_no_queue(tmp_path: Path, default: str) -> None:
    """A worker that was given no --queue serves it: under a name of its own it would wait for ever."""
    database = {"url": f"sqlite:///{tmp_path}/queue.sqlite3"}
    settings = load_settings(None, queue={"connection": "memory", "default": default}, database=database)
    async with Application(settings) as app:
        await app.message_handler().handle(IncomingMessage("no/route", b""))
        (row,) = await app.queues.driver().failures.rows()
        assert await app.failures.rows() == [row]
    assert row.queue == default
