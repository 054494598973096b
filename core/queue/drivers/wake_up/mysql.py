"""MySQL's channel: a query, more and more rarely while nothing comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Database
from core.errors import RouteMQError
from core.queue.driver import WakeUp
from core.queue.drivers.statements.rows import rows
from core.queue.drivers.wake_up.polling import PollingWakeUp
from core.queue.drivers.wake_up.pushes import Pushes

_SHORTEST, _LONGEST = 0.02, 0.25
"""Seconds between two looks of one idle worker."""

# Queues. Returns the highest row id, and per queue the job that would be fetched first: looks at the ends of
# indexes. The id alone would miss a push that got its id earlier than another and was committed later.
_LOOK = "SELECT (SELECT MAX(id) FROM jobs), {firsts}"
_FIRST = """
(SELECT id FROM jobs FORCE INDEX (ix_jobs_next)
  WHERE queue = %s AND lease_expires_at IS NULL AND available_at <= UTC_TIMESTAMP(6)
  ORDER BY available_at, id
  LIMIT 1)
"""


class MysqlChannel:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._pushes = Pushes()

    def may_carry(self) -> bool:
        return False

    def announce(self, queues: Iterable[str], *, is_notified: bool = False) -> None:
        self._pushes.tell(queues)

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        lookout = MysqlLookout(self._database, queues)
        return PollingWakeUp(self._pushes.wake_up(queues), lookout, _SHORTEST, _LONGEST)

    async def close(self) -> None:
        self._pushes.tell_all()


class MysqlLookout:
    def __init__(self, database: Database, queues: Sequence[str]) -> None:
        self._database = database
        self._queues = queues
        self._highest = 0
        self._firsts: list[int | None] = [None] * len(queues)

    async def sees_push(self) -> bool:
        try:
            highest, *firsts = await self._database.read(self._look)
        except RouteMQError:  # the fetch that comes next meets it too, and tells
            return False
        return self._is_news(highest or 0, firsts)

    def close(self) -> None:
        pass

    async def _look(self, connection: AsyncConnection) -> Any:
        statement = _LOOK.format(firsts=", ".join([_FIRST] * len(self._queues)))
        return (await rows(connection, statement, *self._queues))[0]

    def _is_news(self, highest: int, firsts: list[int | None]) -> bool:
        has_first = any(new not in (None, old) for new, old in zip(firsts, self._firsts, strict=True))
        is_higher = highest > self._highest
        self._highest, self._firsts = max(highest, self._highest), firsts
        return is_higher or has_first
