"""Workers are stopped in mid-flood, with less grace than their jobs take; then all of them in turn, as a new version of
a program is brought in.

What still ran has gone back to the store, to be run by others. Only a thread cannot be stopped: it is cut off with its
process, and its job runs again after its lease.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import count, islice

from tests.chaos.fleet import Member
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

WORKERS = 3
GRACE = 0.3
LONGEST = 2.0
"""Seconds that a job takes at most."""


async def play(scene: Scene, size: Size) -> None:
    scene.mix = scene.mix_of({"plain": 65, "thread": 20, "process": 5, "doomed": 5, "keyed": 5}, longest=LONGEST)
    starting = map(partial(_start, scene), count())
    workers = deque(islice(starting, WORKERS))
    async for orders in scene.rounds(size):
        await scene.dispatch(orders)
        await workers[1].up()
        await scene.moment(0.2)
        workers.append(next(starting))
        await scene.fleet.stop(workers.popleft())


def _start(scene: Scene, number: int) -> Member:
    """Every other runs jobs in processes as well."""
    queues = "chaos" if number % 2 else "chaos,processes"
    return scene.fleet.start_worker("--concurrency", "50", queues=queues, APP_GRACE=str(GRACE))


RUN = Run(play, asked=Size(jobs=5_000, faults=30), short=Size(jobs=200, faults=3), share=2)
