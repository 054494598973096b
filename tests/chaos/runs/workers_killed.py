"""Workers are killed at random moments, while jobs of all kinds wait, run, are to be retried and fail for good."""

from __future__ import annotations

from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

WORKERS = 4


async def play(scene: Scene, size: Size) -> None:
    scene.fleet.start_worker(queues="chaos,processes")
    for _ in range(WORKERS - 1):
        scene.fleet.start_worker()
    async for orders in scene.rounds(size):
        await scene.dispatch(orders)
        victim = await scene.fleet.working()
        await scene.moment(0.2)
        scene.fleet.replace(victim)


RUN = Run(play, asked=Size(jobs=50_000, faults=200), short=Size(jobs=300, faults=5), share=4)
