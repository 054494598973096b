"""What a driver asks of its store, counted: the cost of a verb without a clock."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import asyncpg  # type: ignore[import-untyped]
from redis.asyncio import Redis
from sqlalchemy import event

from core.queue.driver import Driver
from core.queue.drivers.statements import sqlite


@asynccontextmanager
async def redis_commands(driver: Driver) -> AsyncIterator[Counter[str]]:
    """The commands that Redis runs on this driver's keys meanwhile, those inside scripts included."""
    client: Redis = driver._client  # type: ignore[attr-defined]
    prefix: str = driver._scripts._prefix  # type: ignore[attr-defined]
    commands: Counter[str] = Counter()
    async with client.monitor() as monitor:
        yield commands
        await client.echo(f"{prefix}end")
        async for entry in monitor.listen():
            words = entry["command"]
            if words == f"ECHO {prefix}end":
                break
            if prefix in words and not words.upper().startswith("EVAL"):
                commands[words.split()[0].upper()] += 1


@asynccontextmanager
async def sql_statements(driver: Driver) -> AsyncIterator[Counter[str]]:
    """The statements that this driver sends meanwhile; not the wake-up calls, which come late and together."""
    engine = driver._database.engine.sync_engine  # type: ignore[attr-defined]
    statements: Counter[str] = Counter()

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SELECT pg_notify"):
            statements[statement] += 1

    async def fetch(connection: asyncpg.Connection, statement: str, *parameters: Any) -> Any:
        count(None, None, statement)
        return await fetch_directly(connection, statement, *parameters)

    async def copy(connection: asyncpg.Connection, table: str, **options: Any) -> Any:
        count(None, None, f"COPY {table}")
        return await copy_directly(connection, table, **options)

    def run(connection: sqlite3.Connection, statement: str, parameters: Any) -> Any:
        count(None, None, statement)
        return run_directly(connection, statement, parameters)

    def push(connection: sqlite3.Connection, new: Any) -> None:
        count(None, None, sqlite.PUSH)
        push_directly(connection, new)

    fetch_directly, copy_directly = asyncpg.Connection.fetch, asyncpg.Connection.copy_to_table
    run_directly, push_directly = sqlite._run, sqlite._push
    event.listen(engine, "before_cursor_execute", count)
    try:
        with (
            patch.object(asyncpg.Connection, "fetch", fetch),
            patch.object(asyncpg.Connection, "copy_to_table", copy),
            patch.object(sqlite, "_run", run),
            patch.object(sqlite, "_push", push),
        ):
            yield statements
    finally:
        event.remove(engine, "before_cursor_execute", count)
