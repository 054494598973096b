"""How each database goes about a verb, in a table that holds thousands of jobs in every state.

A plan that leads through an index alone costs the same in a table of a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
            "rescue": (postgresql.RESCUE, ("q", 10)),
            "queues": (postgresql.QUEUES, ()),
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
            "rescue": (mysql.LOST, ("q", 10)),
            "queues": (mysql.NEXT_QUEUE, ("a",)),
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
    parameters = (NOW, "q") if database.dialect == "sqlite" else ("q",)
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
