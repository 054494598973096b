"""Queues in Redis: every change of state is one Lua script on the keys of one queue.

The keys of a queue carry the hash tag `{queue}`, so that they live on one slot. What each script takes,
does and returns stands at its head, in lua/.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.clock import Backoff
from core.errors import QueueUnavailableError, UnavailableError
from core.queue.driver import FailureStore, WakeUp
from core.queue.state import FailedJob, Failure, FetchedJob, Lease, NewJob, QueueStats, Retry
from core.queue.traceback_text import encodable

_log = logging.getLogger("routemq.queue.redis")

SCRIPT_JOBS = 1000
"""Jobs that one call of a script handles at most: Lua's stack holds 8000 values."""

ANSWER_TIMEOUT = 10.0  # seconds

_OUT_OF_REACH = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)

T = TypeVar("T")


class RedisDriver:
    """Implements the driver contract (core/queue/driver.py); failed jobs go to `failures`."""

    connection = "redis"

    def __init__(self, client: Redis, failures: FailureStore, *, prefix: str = "routemq:") -> None:
        self.failures = failures
        self._client = client
        self._prefix = prefix
        self._scripts = {name: client.register_script(text) for name, text in _script_texts().items()}
        self._known_queues: set[str] = set()

    # ── into the store ───────────────────────────────────────────────────────────────────────────────

    async def push(self, jobs: Sequence[NewJob]) -> None:
        for queue, mine in _by_queue(jobs).items():
            await self._know(queue)
            for part in _parts(mine):
                args = [value for job in part for value in (job.job_id, job.payload, _ms(job.delay))]
                await self._call("push", queue, ("jobs", "available", "scheduled"), self._channel(queue), *args)

    # ── a worker's verbs ─────────────────────────────────────────────────────────────────────────────

    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        fetched: list[FetchedJob] = []
        for queue in queues:
            if len(fetched) >= limit:
                break
            try:
                fetched += await self._fetch_from(queue, limit - len(fetched), lease)
            except QueueUnavailableError:
                if not fetched:
                    raise
                break  # those of the queues before are leased, and must reach their worker
        return fetched

    async def _fetch_from(self, queue: str, limit: int, lease: float) -> list[FetchedJob]:
        token = uuid4().hex
        keys = ("jobs", "available", "executing", "tries")
        reply = await self._call("fetch", queue, keys, min(limit, SCRIPT_JOBS), _ms(lease), token)
        values = iter(reply)
        return [
            FetchedJob(job_id.decode(), queue, payload, int(tries), token)
            for job_id, payload, tries in zip(values, values, values, strict=True)
        ]

    async def complete(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        return await self._end("complete", ("jobs", "executing", "tries"), leases, lambda lease: (lease,))

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        return await self._end(
            "retry",
            ("retryable", "executing", "tries"),
            retries,
            lambda retry: (retry.lease, _ms(retry.delay)),
        )

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        records = {lease.job_id: _record(failure) for lease, failure in failures}
        keys = ("jobs", "executing", "tries", "failed", "returned")
        stale = await self._end("fail", keys, failures, lambda each: (each[0], records[each[0].job_id]))
        for queue, mine in _by_queue(lease for lease, _ in failures if lease.job_id not in stale).items():
            await self._write_failures(queue, {lease.job_id: records[lease.job_id] for lease in mine})
        return stale

    async def release(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        keys = ("available", "executing", "tries")
        return await self._end("release", keys, leases, lambda lease: (lease,), first=self._channel)

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        keys = ("executing", "tries")
        return await self._end("renew", keys, leases, lambda each: (each,), first=lambda queue: _ms(lease))

    # ── maintenance ──────────────────────────────────────────────────────────────────────────────────

    async def stage(self, queues: Sequence[str]) -> float | None:
        keys = ("available", "scheduled", "retryable")
        waits = [await self._call("stage", queue, keys, self._channel(queue), SCRIPT_JOBS) for queue in queues]
        return min((wait / 1000 for wait in waits if wait >= 0), default=None)

    async def rescue(self, queues: Sequence[str]) -> int:
        keys = ("available", "executing", "tries")
        rescued = 0
        for queue in queues:
            rescued += await self._repeat("rescue", queue, keys, self._channel(queue), SCRIPT_JOBS)
            await self._finish_failures(queue)
        return rescued

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        return RedisWakeUp(self._client, [self._channel(queue) for queue in queues])

    # ── operating ────────────────────────────────────────────────────────────────────────────────────

    async def queues(self) -> list[str]:
        async with self._reached():
            names = sorted(_text(name) for name in await self._client.smembers(self._prefix + "queues"))
        return [name for name in names if await self.size(name) or (await self.stats(name)).failed]

    async def size(self, queue: str) -> int:
        async with self._reached():
            return int(await self._client.hlen(self._key(queue, "jobs")))

    async def stats(self, queue: str) -> QueueStats:
        keys = ("available", "scheduled", "executing", "retryable", "failed")
        available, scheduled, executing, retryable, unwritten, age = await self._call("stats", queue, keys)
        failed = unwritten + (await self.failures.count(self.connection)).get(queue, 0)
        return QueueStats(queue, available, scheduled, executing, retryable, failed, age / 1000)

    async def clear(self, queue: str) -> int:
        keys = ("jobs", "tries", "available", "scheduled", "retryable")
        return await self._repeat("clear", queue, keys, SCRIPT_JOBS)

    async def retry_failed(self, failed: Sequence[FailedJob]) -> int:
        """See the contract. The rows stay locked until the jobs are back, and are deleted then.

        A crash in between leaves rows whose ids are in the queue's `returned`: the next call does not
        push them again, and deletes the rows.
        """
        count = 0
        for part in _parts(failed):
            async with self.failures.take([each.job_id for each in part]) as rows:
                for queue, mine in _by_queue(rows).items():
                    count += await self._put_back(queue, mine)
            for queue, mine in _by_queue(rows).items():
                async with self._reached():
                    await self._client.srem(self._key(queue, "returned"), *(each.job_id for each in mine))
        return count

    async def _put_back(self, queue: str, rows: Sequence[FailedJob]) -> int:
        await self._know(queue)
        args = [value for row in rows for value in (row.job_id, row.payload)]
        keys = ("jobs", "available", "returned")
        await self._call("put_back", queue, keys, self._channel(queue), *args)
        return len(rows)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────

    async def ping(self) -> None:
        async with self._reached():
            await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()

    # ── how it is done ───────────────────────────────────────────────────────────────────────────────

    async def _end(
        self,
        script: str,
        keys: Sequence[str],
        items: Sequence[T],
        arguments: Callable[[T], tuple[Any, ...]],
        *,
        first: Callable[[str], Any] | None = None,
    ) -> AbstractSet[str]:
        """Call a script that takes `id, token, …` for each item, queue by queue; returns the stale ids.

        `arguments` gives an item's lease and what follows its token; `first` what precedes all of them.
        """
        stale: set[str] = set()
        by_queue: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for lease, *rest in map(arguments, items):
            by_queue[lease.queue].append((lease.job_id, lease.token, *rest))
        for queue, mine in by_queue.items():
            for part in _parts(mine):
                head = [first(queue)] if first else []
                args = [value for values in part for value in values]
                stale.update(each.decode() for each in await self._call(script, queue, keys, *head, *args))
        return stale

    async def _repeat(self, script: str, queue: str, keys: Sequence[str], *args: Any) -> int:
        """Call a script that handles some at a time until nothing is left."""
        total = 0
        while count := await self._call(script, queue, keys, *args):
            total += count
        return total

    async def _write_failures(self, queue: str, records: Mapping[str, bytes]) -> bool:
        """Copy failures into failed_jobs, then forget them here: a crash in between repeats the copy.

        Where the table is out of reach they stay, and the next rescue tries again.
        """
        failures = [msgspec.msgpack.decode(record, type=Failure) for record in records.values()]
        try:
            await self.failures.record(self.connection, failures)
        except UnavailableError as error:
            _log.error("%d failed jobs of queue %r wait in Redis for failed_jobs: %s", len(failures), queue, error)
            return False
        for part in _parts(list(records.items())):
            await self._call("settle", queue, ("failed",), *(value for pair in part for value in pair))
        return True

    async def _finish_failures(self, queue: str) -> None:
        """Write the failures that a dead process, or one without the database, left here."""
        cursor, written = -1, True
        while cursor != 0 and written:
            async with self._reached():
                key = self._key(queue, "failed")
                reply: Any = await self._client.hscan(key, max(cursor, 0), count=SCRIPT_JOBS)
            cursor, page = reply
            if page:
                records = {_text(job_id): record for job_id, record in page.items()}
                written = await self._write_failures(queue, records)

    async def _know(self, queue: str) -> None:
        """Enter the queue's name where `queues` looks for it; once per process, as names are few."""
        if queue not in self._known_queues:
            async with self._reached():
                await self._client.sadd(self._prefix + "queues", queue)
            self._known_queues.add(queue)

    async def _call(self, script: str, queue: str, keys: Sequence[str], *args: Any) -> Any:
        async with self._reached():
            return await self._scripts[script](keys=[self._key(queue, name) for name in keys], args=args)

    def _key(self, queue: str, name: str) -> str:
        # A brace in the name would end the hash tag early; at its beginning, there would be none.
        tag = queue.replace("%", "%25").replace("}", "%7D")
        return f"{self._prefix}{{{tag}}}:{name}"

    def _channel(self, queue: str) -> str:
        return self._key(queue, "wake")

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                yield
        except _OUT_OF_REACH as error:
            reason = str(error) or "it took too long"
            raise QueueUnavailableError(f"Redis at {_address(self._client)} gave no answer: {reason}") from error


class RedisWakeUp:
    """Listens on the queues' channels. Its connection is made anew whenever it is lost."""

    def __init__(self, client: Redis, channels: Sequence[str]) -> None:
        self._client = client
        self._channels = channels
        self._pushed = asyncio.Event()
        self._task = asyncio.create_task(self._listen(), name="redis-wake-up")

    async def wait(self, timeout: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._pushed.wait()
        woken = self._pushed.is_set()
        self._pushed.clear()
        return woken

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                await self._listen_once(backoff)
            except (*_OUT_OF_REACH, RedisError) as error:
                _log.debug("lost the wake-up connection: %s", error)
            await asyncio.sleep(backoff.next())

    async def _listen_once(self, backoff: Backoff) -> None:
        async with self._client.pubsub() as subscriber:
            await subscriber.subscribe(*self._channels)
            while True:
                message = await subscriber.get_message(timeout=None)
                if message is not None:
                    # A confirmed subscription wakes as well: something may have come before it stood.
                    backoff.reset()
                    self._pushed.set()


@cache
def _script_texts() -> dict[str, str]:
    return {path.stem: path.read_text() for path in (Path(__file__).parent / "lua").glob("*.lua")}


def _by_queue(items: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        groups[item.queue].append(item)
    return groups


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + SCRIPT_JOBS] for start in range(0, len(items), SCRIPT_JOBS)]


def _record(failure: Failure) -> bytes:
    return msgspec.msgpack.encode(replace(failure, exception=encodable(failure.exception)))


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _address(client: Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host')}:{options.get('port')}")
