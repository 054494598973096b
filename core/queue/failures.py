"""failed_jobs: the record of every job that was given up, whichever store its queue lives in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Delete, Insert, and_, delete, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.columns import payload_to_text, storable
from core.database.engine import Database
from core.database.packet import ALWAYS_FITS, escaped_size, packet_room, shortened
from core.database.tables import failed_jobs
from core.database.upsert import insert_or_update
from core.errors import PayloadTooLargeError
from core.queue.state import FailedJob, Failure

_IDS_PER_STATEMENT = 500
_NO_PAYLOAD = literal_column("''", failed_jobs.c.payload.type).label("payload")


class DatabaseFailureStore:
    """The failed_jobs table, as the FailureStore of every driver."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self, connection: str, failures: Sequence[Failure], *, confirm: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Store failures; one whose job id has a row already replaces it.

        `confirm` is called once they are written and before they are committed: what it raises undoes the write.
        Raises PayloadTooLargeError for a failure that no statement of the server can carry, MySQL's: nothing is
        stored then. A job of Redis' stays there until the server's limit is raised; a message from the broker is
        held, unacknowledged, and with it those behind it: to let it go would be to lose it.
        """

        async def work(inner: AsyncConnection) -> None:
            await store_failures(inner, connection, failures)
            if confirm is not None:
                await confirm()

        if failures:
            await self._database.write(work)

    async def rows(
        self,
        *,
        limit: int | None = None,
        queue: str | None = None,
        before: FailedJob | None = None,
        payloads: bool = True,
    ) -> list[FailedJob]:
        """The rows, newest first: those that follow `before` in that order, if given, whether or not it is
        still there; and with empty payloads where nobody wants to load them."""
        query = select(*(_NO_PAYLOAD if each.name == "payload" and not payloads else each for each in failed_jobs.c))
        if queue is not None:
            query = query.where(failed_jobs.c.queue == queue)
        if before is not None:
            query = query.where(_follows(before))
        newest_first = query.order_by(failed_jobs.c.failed_at.desc(), failed_jobs.c.id.desc()).limit(limit)
        return [_failed_job(row) for row in await self._select(newest_first)]

    async def find(self, key: str) -> FailedJob | None:
        """The row whose id or job id is `key`."""
        rows = await self._select(select(failed_jobs).where(_has_key(key)).limit(1))
        return _failed_job(rows[0]) if rows else None

    @asynccontextmanager
    async def take(self, job_ids: Sequence[str]) -> AsyncIterator[list[FailedJob]]:
        """Lock these rows and yield those that exist; they are deleted when the block ends without an error.

        A second taker of the same rows waits, and then does not find them. So does a record of the same
        job, whose row then stays.
        """
        async with self._database.transaction() as connection:
            wanted = select(failed_jobs).where(failed_jobs.c.job_id.in_(job_ids)).with_for_update()
            rows = [_failed_job(row) for row in (await connection.execute(wanted)).all()]
            yield rows
            taken = failed_jobs.c.id.in_([row.id for row in rows])
            await connection.execute(delete(failed_jobs).where(taken))

    async def forget(self, job_ids: Sequence[str]) -> int:
        """Delete the rows of these job ids; returns how many there were."""
        slices = [job_ids[at : at + _IDS_PER_STATEMENT] for at in range(0, len(job_ids), _IDS_PER_STATEMENT)]
        return sum([await self._delete(delete(failed_jobs).where(failed_jobs.c.job_id.in_(ids))) for ids in slices])

    async def flush(self) -> int:
        """Delete every row; returns how many there were."""
        return await self._delete(delete(failed_jobs))

    async def prune(self, before: datetime) -> int:
        """Delete the rows that failed before a moment (UTC); returns how many there were."""
        return await self._delete(delete(failed_jobs).where(failed_jobs.c.failed_at < before))

    async def count(self, connection: str) -> dict[str, int]:
        """Rows per queue that came from one connection."""
        query = (
            select(failed_jobs.c.queue, func.count())
            .where(failed_jobs.c.connection == connection)
            .group_by(failed_jobs.c.queue)
        )
        return {row[0]: row[1] for row in await self._select(query)}

    async def _select(self, query: Any) -> Sequence[Any]:
        async def work(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(query)).all()

        return await self._database.read(work)

    async def _delete(self, statement: Delete) -> int:
        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._database.write(work, single=True, takes_long=True)


async def store_failures(connection: AsyncConnection, name: str, failures: Sequence[Failure]) -> None:
    """Write rows of the queue connection `name` inside a transaction of the caller's."""
    rows = {each.job_id: _row(name, each) for each in failures}
    for row in rows.values():
        await _fit_packet(connection, row)
    if rows:
        await connection.execute(_replacing_insert(connection.dialect.name), list(rows.values()))


def _row(name: str, failure: Failure) -> dict[str, Any]:
    return {
        "job_id": failure.job_id,
        "connection": name,
        "queue": failure.queue,
        "job": storable(failure.job)[:255],
        "payload": failure.payload,
        "exception": storable(failure.exception),
        "attempts": failure.attempts,
        "failed_at": datetime.now(UTC),
    }


async def _fit_packet(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """On MySQL, shorten a traceback that does not fit beside its payload: better a part than no record."""
    size = len(row["payload"]) + 4 * len(row["exception"])
    if connection.dialect.name == "mysql" and size > ALWAYS_FITS:
        payload, room = escaped_size(payload_to_text(row["payload"])), await packet_room(connection)
        if payload > room:
            await connection.invalidate()  # the next one hears of it when the server's limit is raised
            raise PayloadTooLargeError(
                f"The record of failed job {row['job_id']} on queue {row['queue']} takes {payload} bytes in a "
                f"statement; the server's max_allowed_packet leaves {room}. Raise max_allowed_packet on the MySQL "
                "server: the record is kept until then."
            )
        row["exception"] = shortened(row["exception"], room - payload)


def _replacing_insert(dialect: str) -> Insert:
    """INSERT that overwrites the row of the same job id."""
    names = [column.name for column in failed_jobs.columns if column.name not in ("id", "job_id")]
    return insert_or_update(dialect, failed_jobs, "job_id", lambda new: {name: new[name] for name in names})


def _follows(row: FailedJob) -> ColumnElement[bool]:
    """Whether a row comes after this one, newest first. The first condition alone is what an index can serve."""
    failed_at, same_moment = failed_jobs.c.failed_at, failed_jobs.c.id < row.id
    return and_(failed_at <= row.failed_at, or_(failed_at < row.failed_at, same_moment))


def _has_key(key: str) -> ColumnElement[bool]:
    by_job_id = failed_jobs.c.job_id == key
    is_id = key.isascii() and key.isdigit() and int(key) < 2**63
    return or_(failed_jobs.c.id == int(key), by_job_id) if is_id else by_job_id


def _failed_job(row: Any) -> FailedJob:
    """The columns come in the order of the fields; a test holds them to it."""
    return FailedJob(*row)
