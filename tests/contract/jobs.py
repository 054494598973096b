"""Jobs as the suite pushes them, what it says about them, and how it waits for a store's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from core.queue.driver import Driver
from core.queue.job_id import new_job_id
from core.queue.state import Failure, FetchedJob, Lease, NewJob, QueueStats, Retry

QUEUE = "emails"
LONG = 60.0
"""Seconds; a lease or delay that does not run out within a test."""
SHORT = 0.05
"""Seconds; a lease or delay that a test waits for."""


class HasJobId(Protocol):
    @property
    def job_id(self) -> str: ...


def ids(jobs: Iterable[HasJobId]) -> list[str]:
    return [job.job_id for job in jobs]


def new_job(
    queue: str = QUEUE,
    *,
    delay: float = 0.0,
    payload: bytes | None = None,
    job_id: str | None = None,
    ordering_key: str | None = None,
    unique_key: str | None = None,
    unique_for: float = LONG,
) -> NewJob:
    return NewJob(
        job_id or new_job_id(),
        queue,
        _payload(ordering_key) if payload is None else payload,
        delay,
        ordering_key,
        unique_key,
        unique_for if unique_key is not None else 0.0,
    )


def _payload(ordering_key: str | None) -> bytes:
    """What a store may find in it."""
    return b'{"v":1}' if ordering_key is None else msgspec.json.encode({"v": 1, "ordering_key": ordering_key})


def new_jobs(count: int, queue: str = QUEUE, *, delay: float = 0.0) -> list[NewJob]:
    return [new_job(queue, delay=delay, payload=b'{"number":%d}' % number) for number in range(count)]


def new_line(count: int, ordering_key: str, queue: str = QUEUE) -> list[NewJob]:
    """That many jobs of one ordering key, whose ids tell another order."""
    return [new_job(queue, ordering_key=ordering_key) for _ in range(count)][::-1]


def leases(jobs: Iterable[FetchedJob]) -> list[Lease]:
    return [job.lease for job in jobs]


def failure(
    lease: Lease, *, payload: bytes = b'{"v":1}', exception: str = "Traceback: it broke", attempts: int = 1
) -> Failure:
    return Failure(lease.job_id, lease.queue, "SendEmail", payload, exception, attempts)


def states(stats: QueueStats) -> dict[str, int]:
    """The states in which the queue has jobs, and how many."""
    names = ("available", "scheduled", "executing", "retryable", "failed")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


async def pushed_and_fetched(
    driver: Driver, count: int, *, queue: str = QUEUE, lease: float = LONG
) -> list[FetchedJob]:
    await driver.push(new_jobs(count, queue))
    return await driver.fetch([queue], count, lease)


async def failed(driver: Driver, count: int, queue: str = QUEUE) -> list[str]:
    """Push that many jobs and give them up; their ids."""
    fetched = await pushed_and_fetched(driver, count, queue=queue)
    await driver.fail([(lease, failure(lease)) for lease in leases(fetched)])
    return ids(fetched)


async def eventually(probe: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    """Ask until the answer is yes; it is a real store's clock that we wait for."""
    deadline = time.monotonic() + within
    while not await probe():
        assert time.monotonic() < deadline, f"did not come about within {within} s"
        await asyncio.sleep(0.005)


async def staged(driver: Driver, available: int, queue: str = QUEUE) -> None:
    """Stage until that many jobs are available."""

    async def probe() -> bool:
        await driver.stage([queue])
        return (await driver.stats(queue)).available == available

    await eventually(probe)


async def rescued(driver: Driver, count: int, queue: str = QUEUE) -> None:
    """Rescue until that many jobs were."""
    total = 0

    async def probe() -> bool:
        nonlocal total
        total += await driver.rescue([queue])
        return total >= count

    await eventually(probe)
    assert total == count


async def run_out(driver: Driver, lease: float) -> None:
    """Wait until every lease of that many seconds given so far has run out; rescue none of them."""
    await pushed_and_fetched(driver, 1, queue="canary", lease=lease)
    await rescued(driver, 1, "canary")
    await driver.clear("canary")


async def are_keys_of_their_own(driver: Driver, one: str, another: str, queue: str = QUEUE) -> None:
    """Neither of two ordering keys waits for the other, nor hands its turns on to it."""
    ones, others = new_line(2, one, queue), new_line(2, another, queue)
    await driver.push([*ones, *others])
    held = await driver.fetch([queue], 10, LONG)
    assert ids(held) == ids([ones[0], others[0]])
    for job, behind in zip(held, (ones[1], others[1]), strict=True):
        await driver.complete([job.lease])
        (last,) = await driver.fetch([queue], 10, LONG)
        assert last.job_id == behind.job_id
        await driver.complete([last.lease])
        assert await driver.fetch([queue], 10, LONG) == []
    assert await driver.size(queue) == 0


Verb = Callable[[Driver, Sequence[Lease]], Awaitable[AbstractSet[str]]]

VERBS: dict[str, Verb] = {
    "complete": lambda driver, held: driver.complete(held),
    "retry": lambda driver, held: driver.retry([Retry(lease, LONG) for lease in held]),
    "fail": lambda driver, held: driver.fail([(lease, failure(lease)) for lease in held]),
    "release": lambda driver, held: driver.release(held),
    "renew": lambda driver, held: driver.renew(held, LONG),
}
"""The verbs that only the owner of a lease may use."""

STATE_AFTER = {"retry": "retryable", "fail": "failed", "release": "available", "renew": "executing"}
"""Where each leaves the job; complete leaves nothing."""


def states_after(verb: str, count: int) -> dict[str, int]:
    return {STATE_AFTER[verb]: count} if verb in STATE_AFTER else {}
