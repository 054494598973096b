"""Time that passes in a store at once: every moment that it holds is moved into the past."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import URL, Column, make_url

from core.database.columns import UtcDateTime
from core.database.tables import metadata
from tests.servers.databases import query
from tests.servers.redis import client_of


class MovableClock:
    """The clock of a store in this process."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    async def let_pass(self, seconds: float) -> None:
        self._ahead += seconds


async def let_pass_in_database(url: str, seconds: int) -> None:
    """In all tables and columns there are, so that a new one needs no word here."""
    parsed = make_url(url)
    moments = {
        table.name: [column for column in table.columns if isinstance(column.type, UtcDateTime)]
        for table in metadata.tables.values()
    }
    await query(
        url,
        *(
            f"UPDATE {table} SET {', '.join(f'{each.name} = {_earlier(parsed, each, seconds)}' for each in columns)}"
            for table, columns in moments.items()
            if columns
        ),
    )


def _earlier(url: URL, column: Column[datetime], seconds: int) -> str:
    match url.get_backend_name():
        case "sqlite":  # whose own functions know no microseconds
            return f"datetime(substr({column.name}, 1, 19), '-{seconds} seconds') || substr({column.name}, 20)"
        case "postgresql":
            return f"{column.name} - interval '{seconds} seconds'"
        case _:
            return f"{column.name} - INTERVAL {seconds} SECOND"


async def let_pass_in_redis(url: str, prefix: str, seconds: int) -> None:
    """Nobody else may be at work: this is no transaction."""
    redis: Any
    async with client_of(url, decode_responses=True) as redis:
        async for key in redis.scan_iter(match=f"{prefix}*", count=1000):
            await _move(redis, key, key.rpartition(":")[2], seconds * 1000)


async def _move(redis: Any, key: str, name: str, milliseconds: int) -> None:
    left = await redis.pttl(key)
    if left >= 0:
        await redis.pexpire(key, left - milliseconds)  # deletes what thereby is over
    if name == "available":
        await _move_line(redis, key, milliseconds)
    elif name == "waiting":
        await _move_waiting(redis, key, milliseconds)
    elif name in ("scheduled", "retryable", "executing"):
        for member in await redis.zrange(key, 0, -1):
            await redis.zincrby(key, -milliseconds, member)


async def _move_line(redis: Any, key: str, milliseconds: int) -> None:
    for at, entry in enumerate(await redis.lrange(key, 0, -1)):
        moment, _, job_id = entry.partition(":")
        await redis.lset(key, at, f"{int(moment) - milliseconds}:{job_id}")


async def _move_waiting(redis: Any, key: str, milliseconds: int) -> None:
    for entry in await redis.zrange(key, 0, -1):
        place, due, job_id = entry.rsplit(":", 2)
        await redis.zrem(key, entry)
        await redis.zadd(key, {f"{place}:{int(due) - milliseconds}:{job_id}": 0})
