"""Bad input: each gets an error that says what, where and what to do, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import PayloadTooLargeError
from core.queue.state import NewJob
from tests.acceptance.conftest import (
    application,
    broker_settings,
    dispatch,
    eventually,
    failed,
    publish,
    until_queued,
)
from tests.acceptance.program import Program, Site, until
from tests.acceptance.sample_app.jobs.work import Large, Record
from tests.servers.databases import Databases
from tests.servers.kinds import redis_kind
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.process import ServerProcess, free_port
from tests.servers.redis import ValkeyProcess

MIB = 1024 * 1024


@pytest.fixture
def routed(sqlite_site: Site, with_broker: Callable[[Site], Site]) -> Iterator[Site]:
    """A site whose router runs."""
    site = with_broker(sqlite_site)
    with site.start() as router:
        router.says("connected to the MQTT broker")
        yield site
        router.stop()


async def _until_failed(site: Site, count: int = 1) -> list[Any]:
    async with application(site) as app:

        async def are_there() -> bool:
            return len(await app.failures.rows()) >= count

        await eventually(are_there)
        return await app.failures.rows()


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────


CANNOT_BE_HANDLED = {
    "not JSON": ("typed", b"not JSON", "PayloadError"),
    "a wrong type": ("typed", b'{"n": "text"}', "PayloadError"),
    "empty": ("typed", b"", "PayloadError"),
    "invalid UTF-8": ("typed", b'{"n": "\xff"}', "PayloadError"),
    "no route": ("gated/no-number", b"", "NoRouteError"),
}


async def test_a_message_that_cannot_be_handled_is_a_row_of_failed_jobs(routed: Site) -> None:
    for number, (name, (topic, payload, error)) in enumerate(CANNOT_BE_HANDLED.items(), 1):
        await publish(routed, [(topic, payload), ("raw", b"the next one")])
        row, *earlier = await _until_failed(routed, number)
        assert len(earlier) == number - 1, name
        assert error in row.exception and row.job == "core.handle_message.HandleMessage"
        assert row.queue == "default" and topic.encode() in row.payload
        routed.wait_for("raw", number)


async def test_a_message_retried_from_failed_jobs_runs_through_its_route_again(routed: Site) -> None:
    await publish(routed, [("flaky", b"7")])
    (row,) = await _until_failed(routed)
    assert row.attempts == 3 and len(routed.entries("flaky")) == 3
    routed.open_gate()
    routed.run("--queue-retry", "all")
    routed.run("--queue-work", "--queue", "default,a", "--stop-when-empty")
    assert [entry["n"] for entry in routed.entries("recorded")] == [7]
    assert await failed(routed) == []


async def test_payloads_of_1_mib_and_of_nothing_arrive_whole(routed: Site) -> None:
    await publish(routed, [("raw", b"x" * MIB), ("raw", b"")])
    assert [entry["size"] for entry in routed.wait_for("raw", 2)] == [MIB, 0]


# ── stored jobs ──────────────────────────────────────────────────────────────────────────────────────

CANNOT_BE_LOADED = {
    "unknown-class": (
        b'{"v":1,"id":"%s","job":"app.Gone","queue":"default","dispatched_at":"2026-01-01T00:00:00Z","data":{}}',
        "UnknownJobError",
        "deploy it",
    ),
    "truncated": (b'{"v":1,"id":"%s","job":"tests.acc', "EnvelopeError", ""),
    "newer-version": (
        b'{"v":3,"id":"%s","whatever":"it says"}',
        "EnvelopeVersionError",
        "Bring this worker up to date",
    ),
    "no-utf-8": (b"\xff\xfe%s", "EnvelopeError", ""),
}


async def test_pitfall_29_a_job_that_cannot_be_loaded_is_kept_as_it_is(site: Site) -> None:
    payloads = {kind: payload % kind.encode() for kind, (payload, _, _) in CANNOT_BE_LOADED.items()}
    async with application(site) as app:
        await app.queues.driver().push([NewJob(kind, "default", payload) for kind, payload in payloads.items()])
    site.run("--queue-work", "--stop-when-empty")
    rows = await failed(site)
    assert sorted((row.job_id, row.payload) for row in rows) == sorted(payloads.items())
    for row in rows:
        _, error, remedy = CANNOT_BE_LOADED[row.job_id]
        assert error in row.exception and remedy in row.exception


@pytest.mark.parametrize("store_kind", [redis_kind()], indirect=True)
async def test_pitfall_24_a_job_of_16_mib_goes_through_redis(site: Site) -> None:
    site.env["QUEUE_MAX_PAYLOAD"] = str(16 * MIB)
    blob = "x" * (16 * MIB - 1024)  # the rest is for the envelope
    await dispatch(site, Large(blob=blob))
    site.run("--queue-work", "--stop-when-empty")
    assert [(entry["size"], entry["is_whole"]) for entry in site.entries("large")] == [(len(blob), True)]
    with pytest.raises(PayloadTooLargeError, match="QUEUE_MAX_PAYLOAD"):
        await dispatch(site, Large(blob=blob + "x" * 1024))


# ── settings and options ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MQTT_PORT", "eighteen"),
        ("QUEUE_CONNECTION", "kafka"),
        ("QUEUE_LEASE", "-1"),
        ("DATABASE_URL", "oracle://there"),
        ("LOG_LEVEL", "LOUD"),
        ("APP_PACKAGE", "no_such_package"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(sqlite_site: Site, variable: str, value: str) -> None:
    said = sqlite_site.complains(**{variable: value})
    assert variable in said and value in said


@pytest.mark.parametrize(
    "options",
    [
        ["--queue", ""],
        ["--queue", "a,,b"],
        ["--queue", "a=0"],
        ["--queue", "a=1,b"],
        ["--concurrency", "-1"],
        ["--max-jobs", "0"],
        ["--sleep", "-3"],
        ["--timeout", "-1"],
        ["--max-tries", "-1"],
        ["--memory", "-5"],
        ["--connection", "kafka"],
        ["--bogus"],
    ],
    ids=" ".join,
)
def test_bad_usage_of_the_worker_is_exit_code_2(sqlite_site: Site, options: list[str]) -> None:
    said = sqlite_site.complains("--queue-work", *options, exit_code="2")
    assert options[0] in said


def test_a_bad_route_is_named_with_file_and_pattern(sqlite_site: Site, tmp_path: Path) -> None:
    rooms = tmp_path / "bad_app" / "routers"
    rooms.mkdir(parents=True)
    for room in (rooms, rooms.parent):
        (room / "__init__.py").touch()
    (rooms / "pumps.py").write_text(
        "from core.router import Router\nrouter = Router()\nrouter.on('pumps/{pump-id}', lambda: None)\n"
    )
    said = sqlite_site.complains(APP_PACKAGE="bad_app", PYTHONPATH=f"{tmp_path}:{sqlite_site.env['PYTHONPATH']}")
    assert "pumps.py" in said and "{pump-id}" in said


def test_queues_in_memory_are_for_tests_and_not_for_a_router_or_a_worker(sqlite_site: Site) -> None:
    for role in (["router"], ["shared-process", "1"], ["--queue-work"], ["--queue-work", "--connection", "database"]):
        said = sqlite_site.complains(*role, QUEUE_CONNECTION="memory")
        assert "QUEUE_CONNECTION='memory'" in said and "set `redis` or `database`" in said


# ── code of the app that does not end ────────────────────────────────────────────────────────────────

ENDLESS_ROUTES = """
import asyncio, os, time
from core.router import Router
from tests.acceptance.sample_app import journal

def thread():
    journal.write("thread")
    time.sleep(3600)

async def deaf():
    journal.write("deaf")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

router = Router()
router.on(f"{os.environ['SAMPLE_TOPICS']}/thread", thread)
router.on(f"{os.environ['SAMPLE_TOPICS']}/deaf", deaf)
"""
ENDLESS_JOBS = """
from core.errors import PermanentError
from core.job import Job
from endless.routers import deaf, thread

class Thread(Job):
    def handle(self):
        thread()

class Deaf(Job):
    async def handle(self):
        await deaf()

class Hook(Job):
    async def handle(self):
        raise PermanentError("no")

    def failed(self, exception):
        thread()
"""


@pytest.fixture
def endless(sqlite_site: Site, tmp_path: Path) -> Site:
    """A site whose code never ends once it has begun."""
    package = tmp_path / "endless"
    package.mkdir()
    for name, text in {"__init__": "", "routers": ENDLESS_ROUTES, "jobs": ENDLESS_JOBS}.items():
        (package / f"{name}.py").write_text(text)
    path = f"{tmp_path}:{sqlite_site.env['PYTHONPATH']}"
    sqlite_site.env |= {"APP_PACKAGE": "endless", "PYTHONPATH": path, "APP_GRACE": "0.2"}
    return sqlite_site


@pytest.mark.parametrize("controller", ["thread", "deaf"])
async def test_a_controller_that_does_not_end_does_not_keep_the_router(
    endless: Site, broker_of_choice: dict[str, str], controller: str
) -> None:
    endless.env |= broker_of_choice
    with endless.start() as router:
        router.says("connected to the MQTT broker")
        await publish(endless, [(controller, b"")] * 10)
        endless.wait_for(controller)
        router.stop()


@pytest.mark.parametrize(("job", "entry"), [("Thread", "thread"), ("Deaf", "deaf"), ("Hook", "thread")])
async def test_a_job_that_does_not_end_does_not_keep_the_worker(endless: Site, job: str, entry: str) -> None:
    payload = (
        b'{"v":1,"id":"x","job":"endless.jobs.%s","queue":"default","dispatched_at":"2026-01-01T00:00:00Z","data":{}}'
    )
    async with application(endless) as app:
        await app.queues.driver().push([NewJob("x", "default", payload % job.encode())])
    with endless.start("--queue-work") as worker:
        endless.wait_for(entry)
        worker.stop()


# ── servers that are not there, or refuse ────────────────────────────────────────────────────────────


def test_a_missing_broker_is_waited_for_and_named(sqlite_site: Site) -> None:
    port = str(free_port())
    said = sqlite_site.complains("router", "--start-timeout", "0.5", MQTT_BROKER="127.0.0.1", MQTT_PORT=port)
    assert f"waiting for MQTT broker at 127.0.0.1:{port}" in said and "MQTT_PORT" in said


@pytest.mark.parametrize("role", ["router", "--queue-work"])
def test_a_missing_redis_is_waited_for_and_named(sqlite_site: Site, role: str) -> None:
    port = str(free_port())
    where = {"QUEUE_CONNECTION": "redis", "REDIS_URL": f"redis://127.0.0.1:{port}"}
    said = sqlite_site.complains(role, "--start-timeout", "0.5", **where)
    assert f"127.0.0.1:{port}" in said and "waiting" in said


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_missing_database_is_waited_for_and_named_without_its_password(sqlite_site: Site, scheme: str) -> None:
    port = str(free_port())
    url = f"{scheme}://user:secret@127.0.0.1:{port}/name"
    said = sqlite_site.complains("--queue-work", "--start-timeout", "0.5", DATABASE_URL=url)
    assert f"127.0.0.1:{port}" in said and "waiting" in said and "secret" not in said


@pytest.mark.parametrize("role", ["router", "--queue-work"])
def test_a_redis_that_cannot_be_as_durable_as_is_asked_is_refused(sqlite_site: Site, role: str) -> None:
    with ValkeyProcess() as redis:
        where = {"QUEUE_CONNECTION": "redis", "REDIS_URL": redis.url}
        said = sqlite_site.complains(role, QUEUE_REDIS_DURABILITY="fsync", **where)
        assert "QUEUE_REDIS_DURABILITY='fsync' is not usable" in said and "`appendonly yes`" in said
        said = sqlite_site.complains(role, "--start-timeout", "0.5", QUEUE_REDIS_DURABILITY="replicas:2", **where)
        assert "waiting" in said and "0 of 2 replicas" in said


def test_servers_that_come_up_later_are_found(sqlite_site: Site) -> None:
    with ValkeyProcess() as redis:
        redis.stop()
        where = {"QUEUE_CONNECTION": "redis", "REDIS_URL": redis.url}
        with sqlite_site.start("--queue-work", "--stop-when-empty", **where) as worker:
            worker.says("waiting")
            redis.start()
            worker.ends(0)


async def test_an_old_schema_is_refused_with_the_command_that_helps(sqlite_site: Site, servers: Any) -> None:
    databases: Databases = servers.get("sqlite")
    empty = await databases.create()
    for role in ("router", "--queue-work"):
        assert "python main.py --migrate" in sqlite_site.complains(role, DATABASE_URL=empty)
    sqlite_site.run("--migrate", DATABASE_URL=empty)
    sqlite_site.run("--queue-work", "--stop-when-empty", DATABASE_URL=empty)
    await databases.drop(empty)


@pytest.mark.skipif(MosquittoProcess.program is None, reason="mosquitto is not on PATH")
def test_a_broker_that_refuses_the_password_ends_the_start_at_once(sqlite_site: Site) -> None:
    with _StrictMosquitto() as broker:
        said = sqlite_site.complains(**broker_settings(broker), MQTT_USERNAME="router", MQTT_PASSWORD="wrong")
    assert "refused" in said and "MQTT_PASSWORD" in said and "wrong" not in said


@pytest.mark.skipif(MosquittoProcess.program is None, reason="mosquitto is not on PATH")
def test_a_second_router_under_the_same_client_id_is_told_of(sqlite_site: Site) -> None:
    site = sqlite_site
    with MosquittoProcess() as broker:
        site.env |= broker_settings(broker)
        with site.start() as first:
            first.says("connected to the MQTT broker")
            with site.start() as second:
                second.says("connected to the MQTT broker")
                first.says("MQTT_CLIENT_ID")
                second.kill()
            first.stop()


# ── servers that go away later ───────────────────────────────────────────────────────────────────────


async def test_a_router_outlives_its_broker(sqlite_site: Site, restartable_broker: Any) -> None:
    site = sqlite_site
    site.env |= broker_settings(restartable_broker)
    with site.start() as router:
        router.says("connected to the MQTT broker")
        restartable_broker.restart()
        until(lambda: router.stderr.count("connected to the MQTT broker") == 2, "the second connection")
        await publish(site, [("raw", b"after")])
        site.wait_for("raw")
        router.stop()


@pytest.fixture(params=["redis", "postgres", "mysql"])
def store_server(sqlite_site: Site, request: pytest.FixtureRequest) -> ServerProcess:
    """A server of the test's own that holds the site's queues."""
    server: Any = request.getfixturevalue(f"restartable_{request.param}")
    if request.param == "redis":
        sqlite_site.env |= {"QUEUE_CONNECTION": "redis", "REDIS_URL": server.url}
    else:
        sqlite_site.env |= {"DATABASE_URL": server.url}
        sqlite_site.run("--migrate")
    store: ServerProcess = server
    return store


async def test_a_worker_outlives_its_store(sqlite_site: Site, store_server: ServerProcess) -> None:
    site = sqlite_site
    with site.start("--queue-work", "--sleep", "0.5") as worker:
        await _finish_one(site, worker, 1)
        store_server.kill()
        worker.says("trying again")
        store_server.start()
        worker.says("is back")
        await _finish_one(site, worker, 2)
        worker.stop()


async def _finish_one(site: Site, worker: Program, count: int) -> None:
    await dispatch(site, Record(n=count))
    site.wait_for("recorded", count)
    assert worker.is_running()


async def test_messages_wait_while_the_store_is_away(
    sqlite_site: Site, broker_of_choice: dict[str, str], store_server: ServerProcess
) -> None:
    """No try is counted and nothing goes to failed_jobs: the messages wait, unacknowledged."""
    site = sqlite_site
    site.env |= broker_of_choice
    with site.start() as router:
        router.says("connected to the MQTT broker")
        store_server.kill()
        await publish(site, [("numbers", str(n)) for n in range(20)])
        router.says("cannot reach")
        store_server.start()
        await until_queued(site, 20, "a", "b")
        router.stop()
    assert await failed(site) == []
    site.run("--queue-work", "--queue", "a,b", "--stop-when-empty")
    assert sorted(entry["n"] for entry in site.entries("recorded")) == list(range(20))


class _StrictMosquitto(MosquittoProcess):
    """Refuses everybody."""

    def prepare(self) -> None:
        super().prepare()
        config = self.directory / "mosquitto.conf"
        config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0
