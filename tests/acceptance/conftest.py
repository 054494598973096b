"""Sites on every store, and the means to put messages and jobs there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from core.application import Application
from core.job import Job
from core.queue.state import FailedJob
from core.settings import load_settings
from tests.acceptance.program import PATIENCE, Site
from tests.servers.databases import Databases, SqliteDatabases
from tests.servers.kinds import BrokerServer, Servers, broker_kind, redis_kind, sql_kinds
from tests.servers.redis import delete_keys

Publish = Callable[[Iterable[tuple[str, bytes]]], Awaitable[None]]


@pytest.fixture(scope="session", params=[redis_kind(), *sql_kinds()])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Redis and every database; `indirect` parameters choose among them."""
    kind: str = request.param
    return kind


@pytest.fixture
async def store(store_kind: str, servers: Servers, unique: str) -> AsyncIterator[dict[str, str]]:
    """The settings of a store of this test's own, migrated."""
    server = servers.get(store_kind)
    databases = server if isinstance(server, Databases) else SqliteDatabases()
    url = await databases.create_migrated()
    settings = {"QUEUE_CONNECTION": "database", "DATABASE_URL": url, "REDIS_PREFIX": f"{unique}:"}
    if not isinstance(server, Databases):
        settings |= {"QUEUE_CONNECTION": "redis", "REDIS_URL": server.url}
    yield settings
    await databases.drop(url)
    if not isinstance(server, Databases):
        databases.close()
        await delete_keys(server.url, f"{unique}:")


@pytest.fixture
def site(tmp_path: Path, store: dict[str, str], unique: str) -> Site:
    """A site with a store and no broker."""
    return Site(tmp_path, SAMPLE_TOPICS=unique, MQTT_CLIENT_ID=unique, QUEUE_LEASE="1", **store)


@pytest.fixture
async def sqlite_site(tmp_path: Path, servers: Servers, unique: str) -> AsyncIterator[Site]:
    """For what has nothing to do with the kind of store."""
    databases: Databases = servers.get("sqlite")
    url = await databases.create_migrated()
    yield Site(tmp_path, SAMPLE_TOPICS=unique, MQTT_CLIENT_ID=unique, QUEUE_LEASE="1", DATABASE_URL=url)
    await databases.drop(url)


def broker_settings(broker: Any) -> dict[str, str]:
    """For whatever has `host` and `port`: a server that all tests share, or one of a test's own."""
    settings = {"MQTT_BROKER": broker.host, "MQTT_PORT": str(broker.port)}
    if getattr(broker, "username", None):
        settings |= {"MQTT_USERNAME": broker.username, "MQTT_PASSWORD": broker.password or ""}
    return settings


@pytest.fixture
def with_broker(broker: BrokerServer, unique: str) -> Iterator[Callable[[Site], Site]]:
    """Lets a site use the broker; its session there is ended after the test."""

    def add(site: Site) -> Site:
        site.env |= broker_settings(broker)
        return site

    yield add
    _end_sessions(broker, unique)


@pytest.fixture
def broker_of_choice(servers: Servers, unique: str) -> Iterator[dict[str, str]]:
    """The settings of one broker, for what has nothing to do with its kind."""
    broker: BrokerServer = servers.get(broker_kind())
    yield broker_settings(broker)
    _end_sessions(broker, unique)


def _end_sessions(broker: BrokerServer, client_id: str) -> None:
    """Those of a router and of its two shared processes."""
    for each in (client_id, f"{client_id}-1", f"{client_id}-2"):
        broker.accepts(each)


async def publish(site: Site, messages: Iterable[tuple[str, Any]]) -> None:
    """Publish to the site's topics at QoS 1; returns when the broker has them all."""
    env = site.env
    client = aiomqtt.Client(
        env["MQTT_BROKER"],
        int(env["MQTT_PORT"]),
        username=env.get("MQTT_USERNAME"),
        password=env.get("MQTT_PASSWORD"),
        protocol=aiomqtt.ProtocolVersion.V5,
    )
    async with client:
        for topic, payload in messages:
            await client.publish(f"{env['SAMPLE_TOPICS']}/{topic}", payload, qos=1)


def application(site: Site) -> Application:
    """An Application of the site's own settings, in the test's process."""
    section: dict[str, dict[str, Any]] = {"queue": {}, "database": {}, "redis": {}, "app": {}}
    for name in ("queue", "database", "redis", "app"):
        prefix = f"{name.upper()}_"
        section[name] = {k.removeprefix(prefix).lower(): v for k, v in site.env.items() if k.startswith(prefix)}
    return Application(load_settings(None, **section))


async def dispatch(site: Site, *jobs: Job, queue: str | None = None) -> list[str]:
    """Dispatch jobs from the test's process; their ids."""
    async with application(site) as app:
        return await app.queues.bulk(jobs, queue=queue)


async def failed(site: Site) -> list[FailedJob]:
    """The rows of failed_jobs, newest first."""
    async with application(site) as app:
        return await app.failures.rows()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that only a look into a store tells."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110, a store has no event
            await asyncio.sleep(0.02)


async def until_queued(site: Site, count: int, *queues: str) -> None:
    """Wait until these queues hold so many jobs."""
    async with application(site) as app:
        driver = app.queues.driver()

        async def are_there() -> bool:
            return sum([await driver.size(queue) for queue in queues]) >= count

        await eventually(are_there)


async def until_idle(app: Application, queue: str = "default") -> None:
    """Wait until no job of the queue is available or executing: each has begun, and ended."""
    await eventually(lambda: app.queues.driver().is_idle([queue]))
