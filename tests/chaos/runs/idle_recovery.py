"""A worker is killed while no new work arrives: others, which are idle, have to find out by themselves.

Some of those are killed in turn, in the midst of the rescue. Measured is how long after the last kill the last of the
jobs began anew: it is to be within two leases.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.chaos.app.orders import Order
from tests.chaos.fleet import Member
from tests.chaos.ledger import read
from tests.chaos.run import Run, Size
from tests.chaos.scene import LEASE, Scene

RESCUERS = 2
KILLS = 1 + RESCUERS
"""In each round."""
FEWEST = 4
"""Jobs in a round, so that each worker can have one."""
BUSY_MACHINE = 2.0
"""Seconds beyond the two leases that a machine may take which does a lot beside."""


async def play(scene: Scene, size: Size) -> None:
    scene.mix = scene.mix_of({"held": 1}, longest=0.01, longest_delay=0.0)
    rounds = scene.rounds(Size(size.jobs, max(1, size.faults // KILLS)))
    times = [await _round(scene, [*orders, *scene.mix.take(FEWEST)]) async for orders in rounds]
    longest, average = max(times), sum(times) / len(times)
    scene.note(f"all began anew {longest:.1f} s after the kill at most, {average:.1f} s on average (lease {LEASE:g} s)")
    if longest > 2 * LEASE + BUSY_MACHINE:
        scene.find("late", "recovery", f"it took {longest:.1f} s, with a lease of {LEASE:g} s")


async def _round(scene: Scene, orders: Sequence[Order]) -> float:
    """How many seconds after the last kill the last job began anew."""
    half = (len(orders) + 1) // 2
    scene.hold.touch()
    first = await _idle_worker(scene, len(orders))
    await scene.dispatch(orders)
    await scene.until_started([first], len(orders))
    # None can have more than half of them: the last one leaves some to those that are to die.
    *rescuers, last = [await _idle_worker(scene, half) for _ in range(RESCUERS + 1)]
    scene.fleet.kill(first)
    await scene.until_started(rescuers, scene.random.randint(1, len(orders) - half))
    for each in rescuers:
        scene.fleet.kill(each)
    killed_at = time.monotonic()
    scene.hold.unlink()
    await scene.until_open(0)
    await scene.fleet.retire(last)
    began_anew = [entry.at for entry in read(scene.entries) if entry.what == "started"]
    return max(0.0, max(began_anew) - killed_at)


async def _idle_worker(scene: Scene, concurrency: int) -> Member:
    """That nothing wakes but the store, or its own rescuer."""
    worker = scene.fleet.start_worker("--sleep", "3600", "--concurrency", str(concurrency))
    await worker.up()
    return worker


RUN = Run(play, asked=Size(jobs=2_000, faults=30), short=Size(jobs=60, faults=3), share=2, waits=True)
