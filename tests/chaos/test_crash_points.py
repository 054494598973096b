"""A process that dies between any two steps of what it does loses no job and doubles none, on every store.

On PostgreSQL and MySQL there are so many steps, each slow, that it takes minutes: only where such a server is named
(TEST_POSTGRES_URL, TEST_MYSQL_URL), which is the second of the runs that CI makes, and then on no other store again.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.queue.state import FetchedJob
from tests.acceptance.program import Site
from tests.chaos.crash_router import Broker, route
from tests.chaos.crash_scenarios import SCENARIOS, Store, fate_of, perform
from tests.chaos.doomed import Doom, run
from tests.contract.jobs import LONG
from tests.servers.databases import Databases, SqliteDatabases
from tests.servers.kinds import BrokerServer, Servers, broker_kind, redis_kind, sql_kinds
from tests.servers.redis import delete_keys


def _stores() -> list[str]:
    named = [kind for kind in sql_kinds() if str(kind).startswith("named")]
    return named or [redis_kind(), "sqlite"]


@pytest.fixture(params=_stores())
def store_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def store(store_kind: str, servers: Servers, unique: str) -> AsyncIterator[Store]:
    server = servers.get(store_kind)
    databases = server if isinstance(server, Databases) else SqliteDatabases()
    url = await databases.create_migrated()
    if isinstance(server, Databases):
        yield Store(url)
    else:
        yield Store(url, server.url, f"{unique}:")
        databases.close()
        await delete_keys(server.url, f"{unique}:")
    await databases.drop(url)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_verb_may_be_cut_off_before_each_of_its_steps(store: Store, name: str, tmp_path: Path) -> None:
    dooms = [doom async for doom in _deaths_in_verb(store, name, tmp_path / "steps")]
    _check_that_none_was_left_out(dooms)


@pytest.mark.parametrize(("mutation", "name"), [("two_commands", "fail"), ("late_count", "fetch")])
async def test_a_promise_that_is_broken_is_noticed(store: Store, mutation: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="killed before"):
        async for _ in _deaths_in_verb(store, name, tmp_path / "steps", mutation):
            pass


async def _deaths_in_verb(store: Store, name: str, notes: Path, mutation: str | None = None) -> AsyncIterator[Doom]:
    """The scenario again and again, in a queue of its own each time, one step further each time."""
    scenario = SCENARIOS[name]
    async with store.driver() as driver:
        for fatal in itertools.count(1):
            queue = f"queue-{fatal}"
            given = await scenario.prepare(driver, queue)
            doom = run(perform, store, name, given, mutation, fatal=fatal, notes=notes)
            if scenario.repeats:
                await scenario.perform(driver, given)
            fate = await fate_of(driver, queue)
            story = f"killed before {doom.steps[-1:]}: {fate}, of {given.ids}"
            assert scenario.is_right(given, fate), story
            assert doom.steps[-1].endswith("end") <= (fate.most_attempts >= scenario.tries), story
            yield doom
            if not doom.was_killed:
                return


@pytest.fixture
async def broker(servers: Servers, unique: str) -> AsyncIterator[Broker]:
    server: BrokerServer = servers.get(broker_kind())
    broker = Broker(server.host, server.port, unique)
    await broker.subscribe()
    yield broker
    assert server.accepts(unique)  # ends the session


async def test_a_router_may_be_cut_off_before_each_step_from_connect_to_puback(
    store: Store, broker: Broker, tmp_path: Path
) -> None:
    site = Site(tmp_path, **store.settings, **broker.settings)
    dooms = [doom async for doom in _deaths_in_router(store, broker, site, tmp_path / "steps")]
    _check_that_none_was_left_out(dooms)
    assert any("PUBACK" in step for step in dooms[-1].steps)


@pytest.mark.parametrize("store_kind", ["sqlite"])
async def test_an_acknowledgement_before_the_dispatch_is_noticed(store: Store, broker: Broker, tmp_path: Path) -> None:
    site = Site(tmp_path, CHAOS_MUTATION="early_ack", **store.settings, **broker.settings)
    with pytest.raises(AssertionError, match="is lost"):
        async for _ in _deaths_in_router(store, broker, site, tmp_path / "steps"):
            pass


async def _deaths_in_router(store: Store, broker: Broker, site: Site, notes: Path) -> AsyncIterator[Doom]:
    """A message and a router again and again, one step further each time."""
    async with store.driver() as driver:
        for fatal in itertools.count(1):
            await broker.publish(fatal)
            doom = run(route, site.env, fatal=fatal, notes=notes)
            kept = await broker.kept()
            stored = await driver.fetch(["a", "b"], 10, LONG)
            await driver.complete([job.lease for job in stored])
            assert kept == ([fatal] if kept else []), f"killed before {doom.steps[-1:]}: the broker kept {kept}"
            assert len(stored) <= 1, f"killed before {doom.steps[-1:]}: {_numbers(stored)} stored"
            assert kept or stored, f"killed before {doom.steps[-1:]}: message {fatal} is lost"
            yield doom
            if not doom.was_killed:
                return


def _numbers(jobs: list[FetchedJob]) -> list[bytes]:
    return [job.payload for job in jobs]


def _check_that_none_was_left_out(dooms: list[Doom]) -> None:
    """Each step was the one before which one process died; the last process died before none."""
    assert not dooms[-1].was_killed
    assert len(dooms) > max(2, len(dooms[-1].steps))  # the first may have had more: it is they who load scripts
