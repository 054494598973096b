"""The router is killed at random moments, while a device publishes that counts only what the broker acknowledged to it.

What the router had not acknowledged when it died, the broker keeps in its session and delivers again.
"""

from __future__ import annotations

import asyncio

from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

WORKERS = 2


async def play(scene: Scene, size: Size) -> None:
    await scene.fleet.start_router().up()
    scene.fleet.start_worker(queues="chaos,processes")
    for _ in range(WORKERS - 1):
        scene.fleet.start_worker()
    async with scene.publisher() as device:
        async for orders in scene.rounds(size):
            publishing = asyncio.create_task(device.publish(orders), name="publish")
            victim = await scene.fleet.working("router")
            await scene.moment(0.3)
            scene.fleet.replace(victim)
            await publishing
        await scene.until_all_done()


RUN = Run(play, asked=Size(jobs=50_000, faults=50), short=Size(jobs=600, faults=3), share=2, broker=True)
