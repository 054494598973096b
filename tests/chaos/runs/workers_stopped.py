"""Workers are stopped in mid-flood, with less grace than their jobs take; then all of them in turn, as a new version of
a program is brought in.

What still ran has gone back to the store, to be run by others. Only a thread cannot be stopped: it is cut off with its
process, and its job runs again after its lease.
"""

from __future__ import annotations

from tests.chaos.fleet import Member
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

WORKERS = 4
GRACE = 0.3
LONGEST = 2.0
"""Seconds that a job takes at most."""


async def play(scene: Scene, size: Size) -> None:
    scene.mix = scene.mix_of({"plain": 70, "thread": 20, "process": 5, "doomed": 5}, longest=LONGEST)
    workers = [_start(scene) for _ in range(WORKERS)]
    async for orders in scene.rounds(size):
        await scene.dispatch(orders)
        await workers[1].up()
        await scene.moment(0.2)
        workers.append(_start(scene))
        await scene.fleet.stop(workers.pop(0))


def _start(scene: Scene) -> Member:
    return scene.fleet.start_worker(queues="chaos,processes", APP_GRACE=str(GRACE))


RUN = Run(play, asked=Size(jobs=10_000, faults=60), short=Size(jobs=300, faults=5), share=2)
