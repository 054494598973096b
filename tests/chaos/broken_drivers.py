"""Drivers that do not keep a promise, made of those that do: see mutations.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from msgspec.structs import replace
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.database.engine import Database
from core.database.tables import jobs
from core.errors import QueueUnavailableError
from core.queue.driver import Driver
from core.queue.drivers.database import DatabaseDriver
from core.queue.drivers.redis import RedisDriver
from core.queue.state import Failure, FetchedJob, Lease, NewJob, Retry


def broken(name: str, driver: Driver) -> Any:
    """A driver that does not keep the promise of that name."""
    return BROKEN[name](driver)


class Broken:
    """A driver that does most as the one it is made of."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)


class WithoutFencing(Broken):
    """Reports under whatever token a job has now."""

    async def complete(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        return await self.driver.complete(await self._current(leases))

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        leases = await self._current([each.lease for each in retries])
        return await self.driver.retry([Retry(lease, each.delay) for lease, each in zip(leases, retries, strict=True)])

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        leases = await self._current([lease for lease, _ in failures])
        return await self.driver.fail([(lease, failure) for lease, (_, failure) in zip(leases, failures, strict=True)])

    async def release(self, leases: Sequence[Lease]) -> AbstractSet[str]:
        return await self.driver.release(await self._current(leases))

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        return await self.driver.renew(await self._current(leases), lease)

    async def _current(self, leases: Sequence[Lease]) -> list[Lease]:
        tokens = await tries_of(self.driver, leases)
        return [replace(lease, token=tokens[lease.job_id][1] or lease.token) for lease in leases]


class InTwoCommands(Broken):
    pause = 0.0

    async def fail(self, failures: Sequence[tuple[Lease, Failure]]) -> AbstractSet[str]:
        stale = await self.driver.complete([lease for lease, _ in failures])
        await asyncio.sleep(self.pause)
        current = [failure for lease, failure in failures if lease.job_id not in stale]
        await self.driver.failures.record(self.driver.connection, current)
        return stale


class CountingLate(Broken):
    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        fetched = await self.driver.fetch(queues, limit, lease)
        await add_tries(self.driver, [job.lease for job in fetched], -1)
        return fetched

    async def retry(self, retries: Sequence[Retry]) -> AbstractSet[str]:
        await add_tries(self.driver, [each.lease for each in retries], 1)
        return await self.driver.retry(retries)


class PushingCarelessly(Broken):
    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        try:
            return await self.driver.push(jobs)
        except QueueUnavailableError:
            return {}


class WithoutOrder(Broken):
    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        return await self.driver.push([replace(job, ordering_key=None) for job in jobs])


class WithoutUniqueness(Broken):
    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        return await self.driver.push([replace(job, unique_key=None) for job in jobs])


class Impatient(Broken):
    async def rescue(self, queues: Sequence[str], *, patiently: bool = False) -> int:
        return await self.driver.rescue(queues)


class WithoutRescue(Broken):
    async def rescue(self, queues: Sequence[str], *, patiently: bool = False) -> int:
        return 0


class HandingOutLate(Broken):
    """What it has fetched takes its time to get to the worker."""

    async def fetch(self, queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        fetched = await self.driver.fetch(queues, limit, lease)
        await asyncio.sleep(_ON_ITS_WAY if fetched else 0.0)
        return fetched


BROKEN: dict[str, Callable[[Driver], Broken]] = {
    "no_fencing": WithoutFencing,
    "two_commands": InTwoCommands,
    "late_count": CountingLate,
    "careless_push": PushingCarelessly,
    "no_order": WithoutOrder,
    "no_uniqueness": WithoutUniqueness,
    "impatient_rescue": Impatient,
    "no_rescue": WithoutRescue,
    "blind_start": HandingOutLate,
}
"""By the promise that they do not keep."""

_ON_ITS_WAY = 0.3
"""Seconds."""


async def tries_of(driver: Driver, leases: Iterable[Lease]) -> dict[str, tuple[int, str]]:
    """Tries and token of each job as the store has them; (0, "") of one that it does not have."""
    if isinstance(driver, RedisDriver):
        return {lease.job_id: await _redis_tries(driver, lease) for lease in leases}

    async def work(connection: AsyncConnection) -> dict[str, tuple[int, str]]:
        wanted = select(jobs.c.job_id, jobs.c.attempts, jobs.c.lease_token).where(
            jobs.c.job_id.in_([lease.job_id for lease in leases])
        )
        found = {row.job_id: (row.attempts, row.lease_token or "") for row in await connection.execute(wanted)}
        return {lease.job_id: found.get(lease.job_id, (0, "")) for lease in leases}

    return await _database_of(driver).read(work)


async def add_tries(driver: Driver, leases: Sequence[Lease], count: int) -> None:
    """Count `count` tries more for each job."""
    if isinstance(driver, RedisDriver):
        for lease in leases:
            tries, token = await _redis_tries(driver, lease)
            if tries:
                await _of_redis(driver, "hset", lease, lease.job_id, f"{tries + count}:{token}")
        return

    async def work(connection: AsyncConnection) -> None:
        ids = jobs.c.job_id.in_([lease.job_id for lease in leases])
        await connection.execute(update(jobs).where(ids).values(attempts=jobs.c.attempts + count))

    await _database_of(driver).write(work)


async def _redis_tries(driver: RedisDriver, lease: Lease) -> tuple[int, str]:
    value = await _of_redis(driver, "hget", lease, lease.job_id)
    tries, _, token = (value or b"0:").decode().partition(":")
    return int(tries), token


def _of_redis(driver: RedisDriver, command: str, lease: Lease, *arguments: str) -> Awaitable[Any]:
    key = driver._scripts.key(lease.queue, "tries")
    answer: Awaitable[Any] = getattr(driver._client, command)(key, *arguments)
    return answer


def _database_of(driver: Driver) -> Database:
    assert isinstance(driver, DatabaseDriver)
    return driver._database
