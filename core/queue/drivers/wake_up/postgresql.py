"""PostgreSQL's channel: LISTEN and NOTIFY. A push is heard by every process within a millisecond."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from core.clock import Backoff
from core.database.engine import Database
from core.errors import QueueUnavailableError
from core.observability.events import Events, StoreBack, StoreLost
from core.queue.driver import WakeUp
from core.queue.drivers.statements.postgresql import CHANNEL, notify
from core.queue.drivers.wake_up.pushes import Pushes
from core.tasks import end_tasks

_log = logging.getLogger("routemq.queue.postgresql")

_QUIET = 0.01
"""Seconds without a push, after which the next one carries its notification itself."""
_PACE = 0.002
"""Seconds between two notifications of a process that pushes without a pause."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts to reach a server that is gone."""
_CHECK = 30.0
"""Seconds of silence after which the listener makes sure that its connection is alive."""
_LAST_WORDS = 2.0
"""Seconds that closing waits for the last notification."""


class PostgresqlChannel:
    def __init__(self, database: Database, events: Events) -> None:
        self._pushes = Pushes()
        self._notifier = Notifier(database)
        self._listener = Listener(database, self._pushes, events)

    def may_carry(self) -> bool:
        return self._notifier.may_carry()

    def announce(self, queues: Iterable[str], *, is_notified: bool = False) -> None:
        told = set(queues)
        self._pushes.tell(told)
        if not is_notified:
            self._notifier.notify(told)

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        self._listener.start()
        return self._pushes.wake_up(queues)

    async def close(self) -> None:
        await self._notifier.close()
        await self._listener.close()
        self._pushes.tell_all()


class Notifier:
    """Lets a push after a pause carry its notification itself, so that idle workers hear of it with its commit.

    A notification per push would make every commit queue up for a lock of the whole server. So those that come
    without a pause share the next notification, per queue: it is sent on its own, one at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._last_push = -_QUIET

    def may_carry(self) -> bool:
        """Whether the push that comes now is to carry its notification."""
        now = time.monotonic()
        is_quiet = now - self._last_push >= _QUIET
        self._last_push = now
        return is_quiet

    def notify(self, queues: Iterable[str]) -> None:
        self._queues.update(queues)
        if self._queues and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send_all(), name="routemq-notify")

    async def close(self) -> None:
        """Let what is left go out: the process that pushes and ends at once must be heard too."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_LAST_WORDS)
            await end_tasks(self._task)

    async def _send_all(self) -> None:
        backoff = Backoff(_SHORTEST_PAUSE, _LONGEST_PAUSE)
        while self._queues:
            queues, self._queues = self._queues, set()
            try:
                await self._send(queues)
                await asyncio.sleep(_PACE)
            except Exception as error:
                if not isinstance(error, QueueUnavailableError):  # which everybody else meets too, and tells
                    _log.exception("a push is not announced yet, and tried again")
                self._queues |= queues
                await asyncio.sleep(backoff.next())

    async def _send(self, queues: set[str]) -> None:
        await self._database.write(partial(notify, queues=queues), single=True)


class Listener:
    """Listens on a connection of its own, and makes a new one whenever that is lost."""

    def __init__(self, database: Database, pushes: Pushes, events: Events) -> None:
        self._database = database
        self._pushes = pushes
        self._events = events
        self._name = f"wake-ups of {database.address}"
        self._is_lost = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._listen_for_ever(), name="routemq-listen")

    async def close(self) -> None:
        if self._task is not None:
            await end_tasks(self._task)

    async def _listen_for_ever(self) -> None:
        backoff = Backoff(_SHORTEST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                await self._listen(backoff)
            except Exception as error:  # whatever it is: without a listener, a push would wait for a poll
                pause = backoff.next()
                self._is_lost = True
                self._events.emit(StoreLost(self._name, error, pause))
                await asyncio.sleep(pause)

    async def _listen(self, backoff: Backoff) -> None:
        async with self._database.engine.connect() as outer:  # made as all are, whatever the URL asks for
            connection: Any = (await outer.get_raw_connection()).driver_connection
            await outer.run_sync(lambda inner: inner.detach())  # its place in the pool is for others
            try:
                async with asyncio.timeout(_CHECK):
                    await connection.add_listener(CHANNEL, self._heard)
                self._listens(backoff)
                await self._until_lost(connection)
            finally:
                connection.terminate()

    def _listens(self, backoff: Backoff) -> None:
        backoff.reset()
        if self._is_lost:
            self._is_lost = False
            self._events.emit(StoreBack(self._name))
        self._pushes.tell_all()  # nobody listened until now

    async def _until_lost(self, connection: asyncpg.Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not connection.is_closed():
            try:
                async with asyncio.timeout(_CHECK):
                    await lost.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=_CHECK)
        raise ConnectionResetError("the connection was closed by the server")

    def _heard(self, _connection: object, _pid: int, _channel: str, queue: object) -> None:
        self._pushes.tell([str(queue)])
