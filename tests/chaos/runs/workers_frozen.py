"""Workers are stopped by SIGSTOP at random moments of their work, for longer than their leases, and go on.

Each is frozen in the midst of whatever it did: a fetch whose answer is on its way, a renewal, a completion. While it
is, others run its jobs; when it goes on, it must not begin what is no longer its own.
"""

from __future__ import annotations

import asyncio

from tests.chaos.run import Run, Size
from tests.chaos.scene import LEASE, Scene

WORKERS = 4
FROZEN = 2
"""Of them, at the same time."""


async def play(scene: Scene, size: Size) -> None:
    scene.fleet.start_worker(queues="chaos,processes")
    for _ in range(WORKERS - 1):
        scene.fleet.start_worker()
    async for orders in scene.rounds(Size(size.jobs, max(1, size.faults // FROZEN))):
        await scene.dispatch(orders)
        await _freeze_some(scene)


async def _freeze_some(scene: Scene) -> None:
    # All are chosen before the first is frozen: on SQLite it may hold the lock, so that nobody works meanwhile.
    frozen = await scene.fleet.some_working(FROZEN)
    for each in frozen:
        await scene.moment(0.1)
        scene.fleet.freeze(each)
    await asyncio.sleep(scene.random.uniform(1.0, 2.5) * LEASE)
    for each in frozen:
        scene.fleet.thaw(each)


RUN = Run(play, asked=Size(jobs=5_000, faults=20), short=Size(jobs=400, faults=2), share=1, waits=True)
