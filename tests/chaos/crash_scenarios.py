"""The verbs that a process may die in: what each is given, and what must hold whatever the step it died before.

A scenario prepares jobs, performs its verb in a doomed process, and then tells, from another process's point of view,
what has become of the jobs.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redis.asyncio import Redis

from core.database.engine import Database
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.redis import RedisDriver
from core.queue.failures import DatabaseFailureStore
from core.queue.state import FetchedJob, NewJob, Retry
from tests.chaos.broken_drivers import broken
from tests.chaos.steps import Steps
from tests.contract.jobs import (
    LONG,
    SHORT,
    failed,
    failure,
    ids,
    leases,
    new_job,
    new_jobs,
    new_line,
    pushed_and_fetched,
    run_out,
)

COUNT = 3
"""Jobs in each scenario."""


@dataclass(frozen=True)
class Store:
    database_url: str
    redis_url: str | None = None
    """Where the queues are; in the database, if None."""
    prefix: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """What an Application needs to find it."""
        settings = {"QUEUE_CONNECTION": "database", "DATABASE_URL": self.database_url, "REDIS_PREFIX": self.prefix}
        if self.redis_url is not None:
            settings |= {"QUEUE_CONNECTION": "redis", "REDIS_URL": self.redis_url}
        return settings

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[Driver]:
        """One with connections of its own, as each process has."""
        database = Database(self.database_url)
        driver = self._driver(database)
        try:
            yield driver
        finally:
            await driver.close()
            await database.close()

    def _driver(self, database: Database) -> Driver:
        if self.redis_url is None:
            return DatabaseDriver(database, Events())
        return RedisDriver(Redis.from_url(self.redis_url), DatabaseFailureStore(database), prefix=self.prefix)


@dataclass(frozen=True)
class Given:
    """What a doomed process works on."""

    queue: str
    new: list[NewJob] = field(default_factory=list)
    fetched: list[FetchedJob] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Job ids."""

    @property
    def ids(self) -> list[str]:
        return [*ids(self.new), *ids(self.fetched), *self.failed]


@dataclass(frozen=True)
class Fate:
    """What another process found of the jobs: how often each came out of the queue, and which were given up."""

    fetched: Counter[str]
    failed: list[str]
    most_attempts: int


@dataclass(frozen=True)
class Scenario:
    prepare: Callable[[Driver, str], Awaitable[Given]]
    perform: Callable[[Driver, Given], Awaitable[object]]
    is_right: Callable[[Given, Fate], bool]
    tries: int = 0
    """The tries that a job has had at least, once the verb was performed and another process has fetched it."""
    repeats: bool = False
    """Whether whoever asked for the verb asks again, as a dispatcher does whose router died."""


def perform(steps: Steps, store: Store, name: str, given: Given, mutation: str | None = None) -> None:
    """Perform a scenario's verb: what a doomed process does."""
    asyncio.run(_perform(steps, store, SCENARIOS[name], given, mutation))


async def _perform(steps: Steps, store: Store, scenario: Scenario, given: Given, mutation: str | None) -> None:
    async with store.driver() as driver:
        await driver.failures.find("")  # from here on it is connected, to both stores where there are two
        await driver.rescue(["none"])
        steps.arm()
        await scenario.perform(broken(mutation, driver) if mutation else driver, given)
        steps.step("end")
        os._exit(0)


async def fate_of(driver: Driver, queue: str) -> Fate:
    """Do whatever is left to do, as the workers that live on would, until nothing is."""
    fetched: Counter[str] = Counter()
    attempts = 0
    rounds = iter(range(20))
    while await driver.size(queue):
        assert next(rounds, None) is not None, f"some jobs are never available: {await driver.stats(queue)}"
        await run_out(driver, SHORT)
        await driver.rescue([queue])
        await driver.stage([queue])
        for job in await driver.fetch([queue], 2 * COUNT, LONG):
            fetched[job.job_id] += 1
            attempts = max(attempts, job.attempts)
            assert await driver.complete([job.lease]) == set()
    await driver.rescue([queue])
    return Fate(fetched, [row.job_id for row in await driver.failures.rows(queue=queue)], attempts)


# ── given ────────────────────────────────────────────────────────────────────────────────────────────


async def _new(driver: Driver, queue: str) -> Given:
    return Given(queue, new=new_jobs(COUNT, queue))


async def _available(driver: Driver, queue: str) -> Given:
    given = await _new(driver, queue)
    await driver.push(given.new)
    return given


async def _in_line(driver: Driver, queue: str) -> Given:
    """The first of a line is executing, the others wait for their turn."""
    line = new_line(COUNT, "pump-7", queue)
    await driver.push(line)
    return Given(queue, new=line[1:], fetched=await driver.fetch([queue], COUNT, SHORT))


async def _new_with_keys(driver: Driver, queue: str) -> Given:
    unique = [new_job(queue, ordering_key="pump-7", unique_key=f"{queue}-{n}", unique_for=LONG) for n in range(COUNT)]
    return Given(queue, new=unique)


async def _scheduled(driver: Driver, queue: str) -> Given:
    given = Given(queue, new=new_jobs(COUNT, queue, delay=SHORT))
    await driver.push(given.new)
    await run_out(driver, SHORT)
    return given


async def _executing(driver: Driver, queue: str) -> Given:
    return Given(queue, fetched=await pushed_and_fetched(driver, COUNT, queue=queue, lease=SHORT))


async def _abandoned(driver: Driver, queue: str) -> Given:
    given = await _executing(driver, queue)
    await run_out(driver, SHORT)
    return given


async def _given_up(driver: Driver, queue: str) -> Given:
    return Given(queue, failed=await failed(driver, COUNT, queue))


# ── right ────────────────────────────────────────────────────────────────────────────────────────────


def _all_once(given: Given, fate: Fate) -> bool:
    return fate.fetched == Counter(given.ids) and not fate.failed


def _all_or_none(given: Given, fate: Fate) -> bool:
    return _all_once(given, fate) or (not fate.fetched and not fate.failed)


def _once_or_given_up(given: Given, fate: Fate) -> bool:
    return Counter(given.ids) == fate.fetched + Counter(fate.failed)


def _all_but_the_first(given: Given, fate: Fate) -> bool:
    """The first may have ended before its process did."""
    rest = Counter(ids(given.new))
    return fate.fetched + Counter(fate.failed) in (rest, rest + Counter(ids(given.fetched)))


def _some_once(given: Given, fate: Fate) -> bool:
    return fate.fetched <= Counter(given.ids) and not fate.failed


async def _retry_failed(driver: Driver, given: Given) -> None:
    await driver.retry_failed(await driver.failures.rows(queue=given.queue))


SCENARIOS = {
    "dispatch": Scenario(_new, lambda driver, given: driver.push(given.new), _all_once, repeats=True),
    "dispatch with keys": Scenario(
        _new_with_keys, lambda driver, given: driver.push(given.new), _all_once, repeats=True
    ),
    "complete, and hand the turn on": Scenario(
        _in_line, lambda driver, given: driver.complete(leases(given.fetched)), _all_but_the_first
    ),
    "fail, and hand the turn on": Scenario(
        _in_line,
        lambda driver, given: driver.fail([(lease, failure(lease)) for lease in leases(given.fetched)]),
        _all_but_the_first,
    ),
    "fetch": Scenario(_available, lambda driver, given: driver.fetch([given.queue], 2, SHORT), _all_once, 2),
    "complete": Scenario(_executing, lambda driver, given: driver.complete(leases(given.fetched)), _all_or_none),
    "retry": Scenario(
        _executing,
        lambda driver, given: driver.retry([Retry(lease, SHORT) for lease in leases(given.fetched)]),
        _all_once,
    ),
    "fail": Scenario(
        _executing,
        lambda driver, given: driver.fail([(lease, failure(lease)) for lease in leases(given.fetched)]),
        _once_or_given_up,
    ),
    "release": Scenario(_executing, lambda driver, given: driver.release(leases(given.fetched)), _all_once),
    "renew": Scenario(_executing, lambda driver, given: driver.renew(leases(given.fetched), SHORT), _all_once),
    "stage": Scenario(_scheduled, lambda driver, given: driver.stage([given.queue]), _all_once),
    "rescue": Scenario(_abandoned, lambda driver, given: driver.rescue([given.queue]), _all_once, 2),
    "clear": Scenario(_available, lambda driver, given: driver.clear(given.queue), _some_once),
    "retry by hand": Scenario(_given_up, _retry_failed, _all_once, repeats=True),
}
