"""Queues in Redis: every change of state is one Lua script on the keys of one queue."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

from core.queue.driver import FailureStore, WakeUp
from core.queue.drivers.cluster_connection import connection_to
from core.queue.drivers.confirmed_writes import ConfirmedWrites
from core.queue.drivers.durability import Durability
from core.queue.drivers.lost_fetches import LostFetches
from core.queue.drivers.queue_by_queue import fetch_queue_by_queue
from core.queue.drivers.scripts import Scripts
from core.queue.drivers.unwritten_failures import UnwrittenFailures, record_of
from core.queue.drivers.wake_up.redis import RedisWakeUp
from core.queue.envelope import ordering_key_of
from core.queue.state import FailedJob, Failure, FetchedJob, Lease, NewJob, QueueStats, Retry
from core.redis_client import ANSWER_TIMEOUT, RedisClient

SCRIPT_JOBS = 1000
"""Jobs that one call of a script handles at most: Lua's stack holds 8000 values."""
_LOOK_EVERY = 30.0
"""Seconds between two looks for lost turns, which are rare: it takes a worker of an earlier version to lose one."""
_LOOKED_AT = 200
"""Jobs with an ordering key that one of them comes by."""
TURNS = ("ordered", "turns", "waiting", "available", "scheduled")
"""The keys of lua/turns.lua."""

_FETCHED = ("jobs", "executing", "tries")

T = TypeVar("T")


class RedisDriver:
    """Implements the driver contract (core/queue/driver.py); failed jobs go to `failures`."""

    connection = "redis"

    def __init__(
        self,
        client: RedisClient,
        failures: FailureStore,
        *,
        prefix: str = "routemq:",
        durability: Durability | None = None,
    ) -> None:
        self.failures = failures
        self._client = client
        self._lost_fetches = LostFetches()
        self._turns_seen: dict[str, tuple[float, bytes]] = {}
        """When each queue was last looked at for lost turns, and where the next look goes on."""
        self._looked: dict[str, int] = {}
        """When each queue was looked at last by `rescue`: ms of the store's clock."""
        self._connection = connection_to(client, ANSWER_TIMEOUT)
        self._scripts = Scripts(client, self._connection, prefix)
        self._writes = ConfirmedWrites(client, self._scripts, durability)
        self._unwritten = UnwrittenFailures(self._scripts, failures, self.connection)

    # ── into the store ───────────────────────────────────────────────────────────────────────────────

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        left_out: dict[str, str] = {}
        async with self._writes.confirmed() as scripts:
            for queue, mine in _by_queue(jobs).items():
                for part in _parts(mine):
                    script, keys, args = _keyed(part) if _has_keys(part) else _plain(part)
                    reply = await scripts.run_on_known(script, queue, keys, scripts.channel(queue), *args)
                    ids = map(_text, reply)
                    left_out.update(zip(ids, ids, strict=True))
        return left_out

    # ── a worker's verbs ─────────────────────────────────────────────────────────────────────────────

    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        first = self._lost_fetches.first(queues)
        return await fetch_queue_by_queue(first, limit, partial(self._fetch_from, lease=lease))

    async def _fetch_from(self, queue: str, limit: int, lease: float) -> list[FetchedJob]:
        with self._lost_fetches.call(queue) as call:
            token, lost = call.attempt()
            options = min(limit, SCRIPT_JOBS), _ms(lease), token
            taken = lost and await self._scripts.run("fetch_again", queue, _FETCHED, *options, *lost)
            taken = taken or await self._scripts.run("fetch", queue, (*_FETCHED, "available"), *options)
        values = iter(taken)
        return [
            FetchedJob(job_id.decode(), queue, payload, int(tries), token)
            for job_id, payload, tries in zip(values, values, values, strict=True)
        ]

    async def complete(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        keys = (*TURNS, "jobs", "executing", "tries")
        return await self._end("complete", keys, leases, lambda lease: (lease,), first=self._scripts.channel)

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        return await self._end(
            "retry",
            ("retryable", "executing", "tries"),
            retries,
            lambda retry: (retry.lease, _ms(retry.delay)),
        )

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        """Give jobs up. The rows are there when this returns, unless the table is slow or away: then they follow."""
        records = {lease: record_of(failure) for lease, failure in failures}
        keys = (*TURNS, "jobs", "executing", "tries", "failed", "returned")
        stale = await self._end(
            "fail", keys, failures, lambda each: (each[0], records[each[0]]), first=self._scripts.channel
        )
        for queue, mine in _by_queue(lease for lease, _ in failures if lease.job_id not in stale).items():
            await self._unwritten.copy(queue, {lease.job_id: records[lease] for lease in mine})
        if stale:  # an earlier call of this may have left failures there, and its answer got lost
            await self._unwritten.finish({lease.queue for lease, _ in failures if lease.job_id in stale})
        return stale

    async def release(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        keys = ("available", "executing", "tries")
        return await self._end("release", keys, leases, lambda lease: (lease,), first=self._scripts.channel)

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        keys = ("executing", "tries")
        return await self._end("renew", keys, leases, lambda each: (each,), first=lambda queue: _ms(lease))

    # ── maintenance ──────────────────────────────────────────────────────────────────────────────────

    async def stage(self, queues: Sequence[str]) -> float | None:
        keys = ("available", "scheduled", "retryable")
        channel = self._scripts.channel
        waits = [await self._scripts.run("stage", queue, keys, channel(queue), SCRIPT_JOBS) for queue in queues]
        return min((wait / 1000 for wait in waits if wait >= 0), default=None)

    async def rescue(self, queues: Sequence[str], *, patiently: bool = False) -> int:
        rescued = sum([await self._rescue(queue, patiently) for queue in queues])
        await self._unwritten.finish(queues)
        return rescued

    async def _rescue(self, queue: str, patiently: bool) -> int:
        keys = ("available", "executing", "tries")
        options = self._scripts.channel(queue), SCRIPT_JOBS, self._looked.get(queue, 0) if patiently else ""
        rescued, count = 0, -1
        while count:
            count, self._looked[queue] = await self._scripts.run("rescue", queue, keys, *options)
            rescued += count
        await self._look_for_lost_turns(queue)
        return rescued

    async def _look_for_lost_turns(self, queue: str) -> None:
        now = time.monotonic()
        since, place = self._turns_seen.setdefault(queue, (now, b"0"))
        if now - since >= _LOOK_EVERY:
            options = self._scripts.channel(queue), place, _LOOKED_AT
            place = await self._scripts.run("lost_turns", queue, (*TURNS, "jobs"), *options)
            self._turns_seen[queue] = now, place

    async def is_idle(self, queues: Sequence[str]) -> bool:
        for queue in queues:
            available = await self._scripts.ask("LLEN", self._scripts.key(queue, "available"))
            if available or await self._scripts.ask("ZCARD", self._scripts.key(queue, "executing")):
                return False
        return True

    def wake_up(self, queues: Sequence[str]) -> WakeUp:
        return RedisWakeUp(self._client, [self._scripts.channel(queue) for queue in queues])

    # ── operating ────────────────────────────────────────────────────────────────────────────────────

    async def queues(self) -> list[str]:
        names = {_text(name) for name in await self._scripts.ask("SMEMBERS", self._scripts.names)}
        failed = (await self.failures.count(self.connection)).keys()
        return sorted([*failed, *[name for name in names - failed if await self._holds_any(name)]])

    async def _holds_any(self, queue: str) -> bool:
        jobs = await self._scripts.ask("HLEN", self._scripts.key(queue, "jobs"))
        return bool(jobs or await self._scripts.ask("HLEN", self._scripts.key(queue, "failed")))

    async def size(self, queue: str) -> int:
        return int(await self._scripts.ask("HLEN", self._scripts.key(queue, "jobs")))

    async def stats(self, queue: str) -> QueueStats:
        keys = ("available", "scheduled", "executing", "retryable", "failed", "waiting")
        available, scheduled, executing, retryable, unwritten, age = await self._scripts.run("stats", queue, keys)
        failed = unwritten + (await self.failures.count(self.connection)).get(queue, 0)
        return QueueStats(queue, available, scheduled, executing, retryable, failed, age / 1000)

    async def clear(self, queue: str) -> int:
        keys = (*TURNS, "jobs", "tries", "retryable")
        return await self._repeat("clear", queue, keys, self._scripts.channel(queue), SCRIPT_JOBS)

    async def retry_failed(self, failed: Sequence[FailedJob]) -> int:
        """See the contract. The rows stay locked until the jobs are back, and are deleted then.

        A crash in between leaves rows whose ids are in the queue's `returned`: the next call does not
        push them again, and deletes the rows. Ids whose rows are deleted are cleared away by the next rescue.
        """
        count = 0
        for part in _parts(failed):
            async with self.failures.take([each.job_id for each in part]) as rows:
                for queue, mine in _by_queue(rows).items():
                    count += await self._put_back(queue, mine)
            for queue, mine in _by_queue(rows).items():
                await self._scripts.ask("HDEL", self._scripts.key(queue, "returned"), *(each.job_id for each in mine))
        return count

    async def _put_back(self, queue: str, rows: Sequence[FailedJob]) -> int:
        args = [value for row in rows for value in (row.job_id, row.payload, _ordering(ordering_key_of(row.payload)))]
        keys = (*TURNS, "jobs", "returned", "failed")
        async with self._writes.confirmed() as scripts:
            await scripts.run_on_known("put_back", queue, keys, scripts.channel(queue), *args)
        return len(rows)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────

    async def ping(self) -> None:
        await self._scripts.ping()
        await self._writes.require()

    async def close(self) -> None:
        """Each part is closed, whatever closing another raises."""
        async with AsyncExitStack() as closing:  # what is pushed last is closed first
            closing.push_async_callback(self._client.aclose)
            closing.push_async_callback(self._connection.close)
            closing.push_async_callback(self._writes.close)
            closing.push_async_callback(self._unwritten.close)

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
                stale.update(each.decode() for each in await self._scripts.run(script, queue, keys, *head, *args))
        return stale

    async def _repeat(self, script: str, queue: str, keys: Sequence[str], *args: Any) -> int:
        """Call a script that handles some at a time until nothing is left."""
        total = 0
        while count := await self._scripts.run(script, queue, keys, *args):
            total += count
        return total


def _by_queue(items: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        groups[item.queue].append(item)
    return groups


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + SCRIPT_JOBS] for start in range(0, len(items), SCRIPT_JOBS)]


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply


def _has_keys(jobs: Sequence[NewJob]) -> bool:
    # Not any(): of the jobs of most apps none has, and a generator takes three times as long to find that.
    return bool([job for job in jobs if job.ordering_key is not None or job.unique_key is not None])


def _plain(jobs: Sequence[NewJob]) -> tuple[str, Sequence[str], list[Any]]:
    """The script that stores jobs without ordering or unique keys, its keys, and what it takes for the jobs."""
    args = [value for job in jobs for value in (job.job_id, job.payload, _ms(job.delay))]
    return "push", ("jobs", "available", "scheduled"), args


def _keyed(jobs: Sequence[NewJob]) -> tuple[str, Sequence[str], list[Any]]:
    """The same for jobs of which some have such keys."""
    args = [
        value
        for job in jobs
        for value in (job.job_id, job.payload, _ms(job.delay), _ordering(job.ordering_key), _window(job))
    ]
    unique = [f"unique:{job.unique_key}" for job in jobs if job.unique_key is not None]
    return "push_keyed", (*TURNS, "jobs", *unique), args


def _ordering(key: str | None) -> str:
    """An ordering key as the scripts have it: without a NUL, which ends it there, and empty where there is none."""
    return "" if key is None else key.replace("%", "%25").replace("\0", "%00") or "%"


def _window(job: NewJob) -> int:
    """For how many milliseconds its unique key is taken; 0 where it has none."""
    return 0 if job.unique_key is None else max(1, _ms(job.unique_for))


def _ms(seconds: float) -> int:
    return round(seconds * 1000) if seconds else 0
