"""How each database goes about a verb, in a table that holds thousands of jobs in every state.

A plan that leads through an index alone costs the same in a table of a million.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Database
from core.observability.events import Events
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.statements import mysql, postgresql, sqlite
from core.queue.state import NewJob
from tests.servers.databases import query

ROWS = 1500
"""Of each state, in each of two queues."""
NOW = "2100-01-01 00:00:00.000000"
LEASES = '[["q-available-1", "t", "2100-01-01 00:00:00.000000"]]'
SCANS = {
    "sqlite": r"SCAN (jobs|waiting_jobs|turns|arrivals|unique_jobs)\b",
    "postgresql": r"Seq Scan on (jobs|waiting_jobs|turns|arrivals|unique_jobs)\b",
    "mysql": r"'(SIMPLE|PRIMARY|SUBQUERY|DEPENDENT SUBQUERY)', '\w+', '(ALL|index)'",
}
"""Where a plan reads the whole of a table or index."""
PAYLOAD = b'"' + b"x" * 1000 + b'"'
IDS = (["q-available-1", "q-available-2"], ["t", "t"])


@dataclass(frozen=True)
class Plans:
    analyse: str
    explain: str
    statements: dict[str, tuple[str, tuple[Any, ...]]]
    reads_table: Callable[[str], bool]
    """Whether a plan reads or sorts more of the table than it has to."""


PLANS = {
    "sqlite": Plans(
        "ANALYZE",
        "EXPLAIN QUERY PLAN",
        {
            "fetch": (sqlite.FETCH, ("t", NOW, "q", NOW, 10)),
            "remove": (sqlite.REMOVE, (LEASES,)),
            "retry": (sqlite.RETRY, (LEASES,)),
            "release": (sqlite.RELEASE, (LEASES,)),
            "renew": (sqlite.RENEW, (NOW, LEASES)),
            "rescue": (sqlite.RESCUE, ("q", NOW, 10)),
            "queues": (sqlite.QUEUES, ()),
            "queues of those who wait": (sqlite.WAITING_QUEUES, ()),
            "next due": (sqlite.NEXT_DUE, ("q", NOW)),
        },
        lambda plan: "SCAN jobs'" in plan or "TEMP B-TREE" in plan,
    ),
    "postgresql": Plans(
        "ANALYZE jobs",
        "EXPLAIN",
        {
            "fetch": (postgresql.FETCH, ("q", 10, "t", 60.0, None)),
            "remove": (postgresql.REMOVE, IDS),
            "retry": (postgresql.RETRY, (*IDS, [1.0, 1.0])),
            "release": (postgresql.RELEASE, IDS),
            "renew": (postgresql.RENEW, (*IDS, 60.0)),
            "rescue": (postgresql.RESCUE, ("q", 10, None)),
            "queues": (postgresql.QUEUES, ()),
            "queues of those who wait": (postgresql.WAITING_QUEUES, ()),
            "next due": (postgresql.NEXT_DUE, ("q",)),
        },
        # What was fetched is sorted, and nothing else: its rows come from a CTE.
        lambda plan: "Seq Scan on jobs" in plan or "Sort Key: jobs" in plan,
    ),
    "mysql": Plans(
        "ANALYZE TABLE jobs",
        "EXPLAIN",
        {
            "fetch": (mysql.NEXT, ("q", "1970-01-01", 10)),
            "take": (mysql.TAKE.format(ids="%s, %s"), ("t", 1, 1, 2)),
            "held": (mysql.HELD.format(ids="%s, %s"), tuple(IDS[0])),
            "remove": (mysql.REMOVE.format(ids="%s, %s", count=2), (1, 2)),
            "retry": (mysql.RETRY.format(delays="WHEN %s THEN %s", ids="%s"), (1, 1, 1)),
            "release": (mysql.RELEASE.format(ids="%s, %s"), (1, 2)),
            "renew": (mysql.RENEW.format(ids="%s, %s"), (1, 1, 2)),
            "rescue": (mysql.LOST, ("q", NOW, 10)),
            "queues": (mysql.NEXT_QUEUE, ("a",)),
            "queues of those who wait": (mysql.NEXT_WAITING_QUEUE, ("a",)),
            "next due": (mysql.NEXT_DUE, ("q",)),
        },
        lambda plan: "'ALL'" in plan or "'index'" in plan or "filesort" in plan,
    ),
}


def _jobs(queue: str, state: str, delay: float = 0) -> list[NewJob]:
    return [NewJob(f"{queue}-{state}-{number}", queue, PAYLOAD, delay) for number in range(ROWS)]


async def _fill(driver: DatabaseDriver, queue: str) -> None:
    for state, lease in (("executing", 3600), ("lost", 0)):
        await driver.push(_jobs(queue, state))
        assert len(await driver.fetch([queue], ROWS, lease)) == ROWS
    await driver.push(_jobs(queue, "available") + _jobs(queue, "scheduled", 3600))


async def _plans(database: Database) -> dict[str, str]:
    plans = PLANS[database.dialect]

    async def work(connection: AsyncConnection) -> Iterator[tuple[str, str]]:
        found = {}
        for verb, (statement, parameters) in plans.statements.items():
            rows = await connection.exec_driver_sql(f"{plans.explain} {statement}", parameters)
            found[verb] = "\n".join(str(row) for row in rows)
        return iter(found.items())

    return dict(await database.read(work))


async def _expensive(database: Database) -> dict[str, str]:
    reads_table = PLANS[database.dialect].reads_table
    return {verb: plan for verb, plan in (await _plans(database)).items() if reads_table(plan)}


async def test_no_verb_reads_or_sorts_the_table(migrated_database_url: str) -> None:
    database = Database(migrated_database_url)
    driver = DatabaseDriver(database, Events())
    await _fill(driver, "q")
    await _fill(driver, "other")
    assert await _expensive(database) == {}, "before the database counted its rows"
    await query(migrated_database_url, PLANS[database.dialect].analyse)
    assert await _expensive(database) == {}
    plans = await _plans(database)
    for verb in ("fetch", "rescue", "next due"):
        assert "ix_jobs_next" in plans[verb]
    await driver.close()


async def test_pitfall_22_counting_reads_the_index_alone(driver: DatabaseDriver) -> None:
    await _fill(driver, "q")
    statements = {"sqlite": sqlite.STATS, "postgresql": postgresql.STATS, "mysql": mysql.STATS}
    database = driver._database
    parameters = {"sqlite": (NOW, "q", "q"), "postgresql": ("q",), "mysql": ("q", "q")}[database.dialect]
    question = f"{PLANS[database.dialect].explain} {statements[database.dialect]}"

    async def work(connection: AsyncConnection) -> str:
        rows = await connection.exec_driver_sql(question, parameters)
        return "\n".join(str(row) for row in rows)

    if database.dialect == "postgresql":  # which trusts an index alone only once it is vacuumed
        await query(database.url.text, "VACUUM ANALYZE jobs")
    plan = await database.read(work)
    assert any(word in plan for word in ("COVERING INDEX ix_jobs_next", "Index Only Scan", "Using index"))
    stats = await driver.stats("q")
    assert (stats.available, stats.scheduled, stats.executing) == (ROWS, ROWS, 2 * ROWS)


# ── jobs with keys ───────────────────────────────────────────────────────────────────────────────────


async def _fill_with_keys(driver: DatabaseDriver) -> None:
    """Busy keys, idle ones, such as nobody has seen to, and unique keys of which half are over."""
    line = [_with_keys(number) for number in range(ROWS)]
    await driver.push(line)
    await driver.push([replace(job, job_id=f"{job.job_id}-next", unique_key=f"{job.unique_key}-next") for job in line])
    async with driver._database.transaction() as connection:
        arrived = [_with_keys(number, "arrived", unique_key=None) for number in range(ROWS)]
        await driver.push_within(
            connection, [replace(job, queue=f"elsewhere-{number % 20}") for number, job in enumerate(arrived)]
        )
    await query(driver._database.url.text, "UPDATE unique_jobs SET expires_at = '2020-01-01' WHERE job_id LIKE '%next'")


def _with_keys(number: int, name: str = "busy", unique_key: str | None = "") -> NewJob:
    unique = None if unique_key is None else f"{unique_key}{name}-{number}"
    return NewJob(f"{name}-{number}", "q", PAYLOAD, 0, f"{name}-{number}", unique, 3600.0)


async def _use_keys(driver: DatabaseDriver) -> None:
    await driver.push([_with_keys(number, name) for name in ("busy", "fresh") for number in range(5)])
    held = [job.lease for job in await driver.fetch(["q"], 10, 60)]
    assert await driver.complete(held) == set()
    async with driver._database.transaction() as connection:
        await driver.push_within(connection, [_with_keys(number, "within") for number in range(5)])
    await driver.rescue(["q"])


@asynccontextmanager
async def _heard(database: Database) -> AsyncIterator[dict[str, Any]]:
    """The statements that go through SQLAlchemy meanwhile, with parameters that each was given."""
    heard: dict[str, Any] = {}

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, is_many: bool) -> None:
        heard[statement] = parameters[0] if is_many else parameters

    event.listen(database.engine.sync_engine, "before_cursor_execute", hear)
    yield heard
    event.remove(database.engine.sync_engine, "before_cursor_execute", hear)


async def test_no_statement_about_keys_reads_a_table(driver: DatabaseDriver) -> None:
    database = driver._database
    await _fill_with_keys(driver)
    tables = ("jobs", "waiting_jobs", "turns", "arrivals", "unique_jobs")
    analyse = {"sqlite": "ANALYZE", "postgresql": "ANALYZE {}", "mysql": "ANALYZE TABLE {}"}[database.dialect]
    await query(database.url.text, *(analyse.format(table) for table in tables))
    async with _heard(database) as heard:
        await _use_keys(driver)
    about_tables = {text: given for text, given in heard.items() if any(table in text for table in tables)}
    assert len(about_tables) > 12

    async def work(connection: AsyncConnection) -> dict[str, str]:
        plans = {}
        for text, given in about_tables.items():
            rows = await connection.exec_driver_sql(f"{PLANS[database.dialect].explain} {text}", given)
            plans[text] = "\n".join(str(row) for row in rows)
        return plans

    plans = await database.read(work)
    assert {text: plan for text, plan in plans.items() if re.search(SCANS[database.dialect], plan)} == {}
