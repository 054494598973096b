"""Workers are stopped by SIGSTOP for many leases, as a suspended machine is, and then go on as if nothing had been.

Others have begun their jobs anew by then, and are in the midst of them. What the late owners still do with the store
changes nothing: what they complete is not completed, and what they fail is not tried a third time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from tests.chaos.app.orders import Order
from tests.chaos.fleet import Member
from tests.chaos.ledger import Entry, read
from tests.chaos.run import Run, Size
from tests.chaos.scene import LEASE, Scene

FROZEN = 2
"""Workers, at the same time."""
BUSY_MACHINE = 20.0
"""Seconds more that the others may take to begin the jobs anew."""
IDLE_TRANSACTION = 30.0
"""Seconds; DATABASE_ANSWER_TIMEOUT."""


async def play(scene: Scene, size: Size) -> None:
    scene.mix = scene.mix_of({"plain": 80, "thread": 20}, longest_delay=0.0, once=0.0)
    rounds = max(1, size.faults // FROZEN)
    async for orders in scene.rounds(Size(size.jobs, rounds)):
        await _round(scene, orders, max(size.lasting, 2 * LEASE))
    late = _late_ends(read(scene.entries))
    scene.note(f"{late} tries ended in a late owner after the same job had begun elsewhere")
    if not late:
        scene.find("too tame", "suspension", "no owner was late, so that nothing was shown")


async def _round(scene: Scene, orders: Sequence[Order], seconds: float) -> None:
    """Suspend the workers of some jobs for as long as the jobs take, so that their next tries are under way by then."""
    owners = [_start_worker(scene, len(orders)) for _ in range(FROZEN)]
    await asyncio.gather(*(each.up() for each in owners))
    # A late owner fails one half of them, and completes the other.
    await scene.dispatch([replace(each, seconds=seconds, failures=n % 2) for n, each in enumerate(orders)])
    await scene.until_started(owners, len(orders))
    for each in owners:
        scene.fleet.freeze(each)
    over = time.monotonic() + seconds
    others = [_start_worker(scene, len(orders)) for _ in range(FROZEN)]
    await asyncio.sleep(max(0.0, over - time.monotonic()))
    with suppress(TimeoutError):
        async with asyncio.timeout(BUSY_MACHINE):
            await scene.until_started(others, len(orders))
    _find_stuck(scene, len(orders) - sum(scene.progress.started.get(each.pid, 0) for each in others), seconds)
    for each in owners:
        scene.fleet.thaw(each)
    await scene.until_all_done()
    await scene.fleet.retire(*owners, *others)


def _find_stuck(scene: Scene, missing: int, seconds: float) -> None:
    """An owner that was frozen in a transaction holds the locks of its jobs, until the server ends that."""
    if missing > 0 and seconds > 2 * IDLE_TRANSACTION + 2 * LEASE:
        scene.find("stuck", "rescue", f"of the jobs of frozen workers, {missing} did not begin anew in {seconds:g} s")


def _start_worker(scene: Scene, jobs: int) -> Member:
    return scene.fleet.start_worker("--concurrency", str(jobs), QUEUE_THREADS=str(jobs))


def _late_ends(entries: Iterable[Entry]) -> int:
    """Tries that ended when another of the same job, in another process, had begun after them."""
    last_owner: dict[str, int] = {}
    late = 0
    for entry in entries:
        if entry.what == "started":
            last_owner[entry.job] = entry.process
        elif entry.what in ("done", "raised"):
            late += last_owner[entry.job] != entry.process
    return late


RUN = Run(
    play,
    asked=Size(jobs=200, faults=2, lasting=120.0),
    short=Size(jobs=40, faults=2, lasting=6.0),
    share=1,
    waits=True,
)
