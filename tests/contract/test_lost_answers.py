"""What a store has done and its caller was not told of is told again, and done once.

Each verb is asked by way of a proxy that cuts off one answer: the first, and each time that all goes well after it, the
next, until the verb came through without a cut. It is repeated as its callers do. Connections are there already; for
one verb, they are not, so that each answer of the greeting is cut off as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import make_url

from core.database.engine import Database
from core.handle_message import HandleMessage
from core.mqtt.message import IncomingMessage
from core.observability.events import Events
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.queue.queue_manager import QueueManager
from core.queue.state import Retry
from core.queue.worker.outage import Outage
from core.queue.worker.until_reached import until_reached
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable
from tests.chaos.proxy import NthAnswers, Proxy
from tests.contract.conftest import EmptyDatabases
from tests.contract.jobs import (
    LONG,
    SHORT,
    VERBS,
    failed,
    ids,
    leases,
    new_jobs,
    pushed_and_fetched,
    run_out,
    staged,
    states,
    states_after,
)
from tests.servers.kinds import RedisServer, Servers, redis_kind, sql_kinds
from tests.servers.redis import client_of, delete_keys

MOST = 40
"""Answers that no verb has, so that a proxy that cuts off every one is found out."""


@dataclass(frozen=True)
class Line:
    """Two ways to one store."""

    proxy: Proxy
    open: Callable[[], Driver]
    """Makes a driver that goes by way of the proxy."""
    near: Driver


_SQL = [kind for kind in sql_kinds() if kind != "sqlite"]


@pytest.fixture(params=[redis_kind(), *_SQL])
async def line(
    request: pytest.FixtureRequest, servers: Servers, empty_databases: EmptyDatabases, unique: str
) -> AsyncIterator[Line]:
    match servers.get(request.param):
        case RedisServer(url=url):
            async with _line_to_redis(url, f"{unique}:") as line:
                yield line
        case databases:
            async with _line_to_database(await empty_databases.get(databases)) as line:
                yield line


@asynccontextmanager
async def _line_to_redis(url: str, prefix: str) -> AsyncIterator[Line]:
    failures = MemoryFailureStore()
    near = RedisDriver(client_of(url), failures, prefix=prefix)
    with _proxy_to(url) as proxy:
        yield Line(proxy, lambda: RedisDriver(client_of(proxy.at(url)), failures, prefix=prefix), near)
    await near.close()
    await delete_keys(url, prefix)


@asynccontextmanager
async def _line_to_database(url: str) -> AsyncIterator[Line]:
    near = DatabaseDriver(Database(url), Events())
    with _proxy_to(url) as proxy:
        yield Line(proxy, lambda: DatabaseDriver(Database(proxy.at(url)), Events()), near)
    await near.close()


def _proxy_to(url: str) -> Proxy:
    parts = make_url(url)
    assert parts.host
    assert parts.port
    return Proxy(parts.host, parts.port)


@pytest.fixture
async def far(line: Line) -> AsyncIterator[Driver]:
    driver = line.open()
    yield driver
    await driver.close()


T = TypeVar("T")


class Cut:
    """One round, in a queue of its own, in which one answer is cut off."""

    def __init__(self, proxy: Proxy, number: int) -> None:
        self.queue = f"q{number}"
        self.happened = False
        self._proxy = proxy
        self._number = number

    async def tell(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call a verb, of which an answer is cut off, until there is no error."""
        judge = NthAnswers(self._number)
        self._proxy.judge_by(judge)
        result = await until_reached(partial(verb, *arguments), Outage(Events()))
        self._proxy.judge_by(None)
        self.happened = judge.cuts > 0
        return result


def every_answer(proxy: Proxy) -> Iterator[Cut]:
    """Rounds, until there was one without a cut."""
    for number in range(1, MOST):
        cut = Cut(proxy, number)
        yield cut
        if not cut.happened:
            assert number > 1, "nothing was cut off"
            return
    raise AssertionError(f"more than {MOST} answers")


async def _connect(far: Driver) -> None:
    """Through each way that the driver has to its store."""
    await far.push(new_jobs(1, "connected"))
    await far.complete(leases(await far.fetch(["connected"], 1, LONG)))
    await far.ping()


@pytest.mark.parametrize("connected", [True, False])
async def test_a_push_whose_answer_is_lost_stores_each_job_once(line: Line, far: Driver, connected: bool) -> None:
    for cut in every_answer(line.proxy):
        driver = far if connected else line.open()
        if connected:
            await _connect(driver)
        jobs = new_jobs(5, cut.queue)
        await cut.tell(driver.push, jobs)
        assert ids(await line.near.fetch([cut.queue], 10, LONG)) == ids(jobs)
        if not connected:
            await driver.close()


async def test_a_message_whose_job_is_stored_without_an_answer_makes_one_job(line: Line, far: Driver) -> None:
    manager = QueueManager({"database": lambda: far})
    router = Router()
    router.on("{name}", lambda name: manager.push(HandleMessage(topic=name, payload=b""), queue=name))
    handler = MessageHandler(RouteTable([router]), events=Events(), record_failure=_no_failure)
    for cut in every_answer(line.proxy):
        await _connect(far)
        await cut.tell(handler.handle, IncomingMessage(cut.queue, b"", qos=1))
        assert states(await line.near.stats(cut.queue)) == {"available": 1}


async def _no_failure(*failure: object) -> None:
    raise AssertionError(failure)


async def test_a_fetch_whose_answer_is_lost_counts_one_try(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        jobs = new_jobs(5, cut.queue)
        await line.near.push(jobs)
        fetched = await cut.tell(far.fetch, [cut.queue], 3, LONG)
        assert [(job.job_id, job.attempts) for job in fetched] == [(job_id, 1) for job_id in ids(jobs[:3])]
        assert states(await line.near.stats(cut.queue)) == {"available": 2, "executing": 3}
        assert await line.near.complete(leases(fetched)) == set()
        assert ids(await line.near.fetch([cut.queue], 10, LONG)) == ids(jobs[3:])


async def test_a_fetch_whose_answer_is_lost_twice_counts_one_try(line: Line, far: Driver) -> None:
    await _connect(far)
    for gap in range(1, MOST):
        jobs = new_jobs(5, f"q{gap}")
        await line.near.push(jobs)
        judge = NthAnswers(1, 1 + gap)
        line.proxy.judge_by(judge)
        fetched = await until_reached(partial(far.fetch, [f"q{gap}"], 3, LONG), Outage(Events()))
        line.proxy.judge_by(None)
        assert [(job.job_id, job.attempts) for job in fetched] == [(job_id, 1) for job_id in ids(jobs[:3])]
        if judge.cuts < 2:
            return
    raise AssertionError(f"more than {MOST} answers")


async def test_what_is_lost_of_one_queue_goes_into_the_slots_that_are_free(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        ahead, behind = f"{cut.queue}-ahead", f"{cut.queue}-behind"
        await line.near.push([*new_jobs(1, ahead), *new_jobs(3, behind)])
        fetched = await cut.tell(far.fetch, [ahead, behind], 4, LONG)
        while len(fetched) < 4:
            more = await far.fetch([ahead, behind], 1, LONG)
            assert len(more) == 1
            fetched += more
        assert len(set(ids(fetched))) == 4
        assert {job.attempts for job in fetched} == {1}
        assert await line.near.complete(leases(fetched)) == set()


@pytest.mark.parametrize("verb", VERBS)
async def test_an_outcome_whose_answer_is_lost_counts_once(line: Line, far: Driver, verb: str) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        held = leases(await pushed_and_fetched(line.near, 5, queue=cut.queue))
        await cut.tell(VERBS[verb], far, held)
        await line.near.rescue([cut.queue])  # it also finishes failures that have no row yet
        assert states(await line.near.stats(cut.queue)) == states_after(verb, 5)
        assert await line.near.size(cut.queue) == (0 if verb in ("complete", "fail") else 5)
        assert len(await line.near.failures.rows(queue=cut.queue)) == (5 if verb == "fail" else 0)


async def test_a_release_whose_answer_is_lost_takes_one_try_back(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        held = leases(await pushed_and_fetched(line.near, 5, queue=cut.queue))
        await line.near.retry([Retry(lease, 0) for lease in held])
        await staged(line.near, 5, cut.queue)
        held = leases(await line.near.fetch([cut.queue], 5, LONG))
        await cut.tell(far.release, held)
        assert [job.attempts for job in await line.near.fetch([cut.queue], 5, LONG)] == [2] * 5


async def test_staging_whose_answer_is_lost_stages_each_job_once(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        held = leases(await pushed_and_fetched(line.near, 5, queue=cut.queue))
        await line.near.retry([Retry(lease, SHORT) for lease in held])
        await line.near.push(new_jobs(5, cut.queue, delay=SHORT))
        await run_out(line.near, SHORT)
        await cut.tell(far.stage, [cut.queue])
        await staged(line.near, 10, cut.queue)
        assert len(set(ids(await line.near.fetch([cut.queue], 20, LONG)))) == 10


async def test_a_rescue_whose_answer_is_lost_rescues_each_job_once(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        fetched = await pushed_and_fetched(line.near, 5, queue=cut.queue, lease=SHORT)
        await run_out(line.near, SHORT)
        await cut.tell(far.rescue, [cut.queue])
        assert states(await line.near.stats(cut.queue)) == {"available": 5}
        assert ids(await line.near.fetch([cut.queue], 10, LONG)) == ids(fetched)


async def test_clearing_whose_answer_is_lost_is_done(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        await pushed_and_fetched(line.near, 3, queue=cut.queue)
        await line.near.push([*new_jobs(5, cut.queue), *new_jobs(5, cut.queue, delay=LONG)])
        await cut.tell(far.clear, cut.queue)
        assert states(await line.near.stats(cut.queue)) == {"executing": 3}


async def test_putting_back_whose_answer_is_lost_puts_each_job_back_once(line: Line, far: Driver) -> None:
    for cut in every_answer(line.proxy):
        await _connect(far)
        expected = await failed(line.near, 5, cut.queue)
        rows = await line.near.failures.rows(queue=cut.queue)
        await cut.tell(far.retry_failed, rows)
        assert states(await line.near.stats(cut.queue)) == {"available": 5}
        assert await line.near.failures.rows(queue=cut.queue) == []
        assert sorted(ids(await line.near.fetch([cut.queue], 10, LONG))) == sorted(expected)
