"""Failures that lie in Redis until they have their row in failed_jobs, and the way there.

Whoever fails a job leaves its failure in the queue's hash `failed`. One task per driver copies it into the
table, beside the worker: a database that gives no answer holds up nothing but the copy. What is left over,
because the database is away or the process died, is found there by the next rescue of any process.

Any number of processes may copy the same failure, and one of them may be late: the row it is about to write may
have been written, put back by hand and done long ago. So a copier asks Redis, with its rows written and not yet
committed, whether these failures still lie there, and takes the rows back if not. This is enough: a failure
leaves Redis when its row is committed, or under the lock of that row, in the script that puts its job back. While
a copier holds the lock of the row it has written, nobody puts the job back, and whoever does so later finds the row.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from hashlib import sha1

import msgspec
from msgspec.structs import replace

from core.errors import SchemaOutdatedError, UnavailableError
from core.queue.driver import FailureStore
from core.queue.drivers.scripts import Scripts
from core.queue.state import Failure
from core.queue.traceback_text import encodable
from core.tasks import end_tasks

_log = logging.getLogger("routemq.queue.redis")

PATIENCE = 2.0
"""Seconds that a caller waits for the copy at most."""
_MOST_BYTES = 8 * 1024 * 1024
"""Of failures that wait in this process; of more, the copies are made from Redis."""
_PAGE = 50
"""Failures read from Redis at once; each holds a payload."""
_SILENCE = 600.0
"""Seconds between two complaints about records that the table refuses."""


class _Outdated(Exception):
    """Some of the failures about to be committed lie in Redis no longer."""


class UnwrittenFailures:
    """Copies failures from Redis into the table, one write at a time, in a task of its own."""

    def __init__(self, scripts: Scripts, table: FailureStore, connection: str) -> None:
        """`connection` is what the rows are to name as their connection."""
        self._scripts = scripts
        self._table = table
        self._connection = connection
        self._left_here: dict[str, dict[str, bytes]] = {}  # by queue and job id
        self._to_search: set[str] = set()  # queues
        self._task: asyncio.Task[None] | None = None
        self._slow: asyncio.Task[None] | None = None
        self._silent_until = float("-inf")

    async def copy(self, queue: str, records: Mapping[str, bytes]) -> None:
        """Copy failures that were just left in Redis. Returns when that is done, after PATIENCE at the latest."""
        here = sum(len(record) for mine in self._left_here.values() for record in mine.values())
        if here + sum(map(len, records.values())) > _MOST_BYTES:
            self._to_search.add(queue)
        else:
            self._left_here.setdefault(queue, {}).update(records)
        await self._work()

    async def finish(self, queues: Iterable[str]) -> None:
        """Copy all failures that lie in Redis, and clear away what cut off retries by hand left. Returns likewise."""
        self._to_search.update(queues)
        await self._work()

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task], timeout=PATIENCE)
            await end_tasks(self._task)

    async def _work(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._copy_all(), name="failed-jobs")
        if self._task is self._slow:
            return
        _, unfinished = await asyncio.wait([self._task], timeout=PATIENCE)
        if unfinished:
            self._slow = self._task  # nobody else is to wait for it

    async def _copy_all(self) -> None:
        try:
            while self._left_here or self._to_search:
                await self._copy_waiting()
        except (UnavailableError, SchemaOutdatedError) as error:
            self._left_here.clear()
            self._to_search.clear()
            _log.error("failed jobs wait in Redis for failed_jobs: %s", error)
        except Exception:
            _log.exception("failed jobs wait in Redis for failed_jobs")

    async def _copy_waiting(self) -> None:
        left_here, self._left_here = self._left_here, {}
        to_search, self._to_search = self._to_search, set()
        for queue, records in left_here.items():
            await self._copy(queue, records)
        for queue in to_search:
            async for records in self._pages(queue, "failed"):
                await self._copy(queue, records)
            async for marks in self._pages(queue, "returned"):
                await self._clear_away(queue, marks)

    async def _copy(self, queue: str, records: Mapping[str, bytes]) -> None:
        try:
            await self._write(queue, records)
        except (UnavailableError, SchemaOutdatedError):
            raise
        except Exception as error:
            await self._copy_singly(queue, records, error)

    async def _copy_singly(self, queue: str, records: Mapping[str, bytes], error: Exception) -> None:
        """The table refused some: only the culprit is to stay behind."""
        if len(records) > 1:
            for job_id, record in records.items():
                await self._copy(queue, {job_id: record})
        elif time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SILENCE
            _log.error("failed_jobs refuses job %s of queue %r; it stays in Redis: %s", *records, queue, error)

    async def _write(self, queue: str, records: Mapping[str, bytes]) -> None:
        """Write the rows of what lies in Redis still, then forget it there: a crash in between repeats the copy."""
        outdated: set[str] = set()

        async def confirm() -> None:
            gone = await self._scripts.run("unwritten", queue, ("failed",), *_digests(records))
            outdated.update(map(_text, gone))
            if outdated:
                raise _Outdated

        failures = [msgspec.msgpack.decode(record, type=Failure) for record in records.values()]
        try:
            await self._table.record(self._connection, failures, confirm=confirm)
        except _Outdated:
            current = {job_id: record for job_id, record in records.items() if job_id not in outdated}
            if current:
                await self._write(queue, current)
        else:
            await self._scripts.run("settle", queue, ("failed",), *_digests(records))

    async def _clear_away(self, queue: str, marks: Mapping[str, bytes]) -> None:
        """Forget that jobs were put back whose row is deleted: whoever should have done so died before."""
        done = {job_id: mark for job_id, mark in marks.items() if await self._table.find(job_id) is None}
        await self._scripts.run("settle", queue, ("returned",), *_digests(done))

    async def _pages(self, queue: str, name: str) -> AsyncIterator[dict[str, bytes]]:
        """A hash of the queue, some entries at a time."""
        cursor: bytes | int = 0
        while True:
            cursor, page = await self._scripts.ask("HSCAN", self._scripts.key(queue, name), cursor, "COUNT", _PAGE)
            if page:
                entries = iter(page)
                yield {_text(job_id): value for job_id, value in zip(entries, entries, strict=True)}
            if int(cursor) == 0:
                break


def record_of(failure: Failure) -> bytes:
    """A failure as it lies in Redis."""
    return msgspec.msgpack.encode(replace(failure, exception=encodable(failure.exception)))


def _digests(entries: Mapping[str, bytes]) -> list[str]:
    """Job id, digest, …: to tell an entry from a later one without sending it."""
    return [each for key, value in entries.items() for each in (key, sha1(value, usedforsecurity=False).hexdigest())]


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
