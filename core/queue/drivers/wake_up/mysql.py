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

# Queues. Returns the highest row id, and whether one of the queues has a job that may be fetched: two looks at
# the ends of indexes. The id alone would miss a push that got its id earlier than another and ended later.
_LOOK = """
SELECT (SELECT MAX(id) FROM jobs),
       EXISTS (SELECT 1 FROM jobs
                WHERE queue IN ({queues}) AND lease_expires_at IS NULL AND available_at <= UTC_TIMESTAMP(6))
"""


class MysqlChannel:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._pushes = Pushes()

    def announce(self, queues: Iterable[str]) -> None:
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

    async def sees_push(self) -> bool:
        try:
            highest, available = await self._database.read(self._look)
        except RouteMQError:  # the fetch that comes next meets it too, and tells
            return False
        pushed = (highest or 0) > self._highest
        self._highest = max(highest or 0, self._highest)
        return pushed or bool(available)

    def close(self) -> None:
        pass

    async def _look(self, connection: AsyncConnection) -> Any:
        statement = _LOOK.format(queues=", ".join(["%s"] * len(self._queues)))
        return (await rows(connection, statement, *self._queues))[0]
