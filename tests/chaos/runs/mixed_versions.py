"""A rolling deploy: routers and workers of the previous version beside those of this one, in both directions.

Each takes turns at being the router, while workers of both take the jobs, whoever dispatched them; and all are killed
and replaced by others of their kind on the way.
"""

from __future__ import annotations

from tests.chaos import previous
from tests.chaos.fleet import MAIN
from tests.chaos.mix import WITHOUT_KEYS
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene


async def play(scene: Scene, size: Size) -> None:
    scene.mix = scene.mix_of(WITHOUT_KEYS, once=0.0)  # neither of which the previous version knows
    old = {MAIN: str(previous.unpack(scene.directory / "previous"))}
    for version in ({}, old):
        scene.fleet.start_worker(queues="chaos,processes", **version)
    router = scene.fleet.start_router(**old)
    await router.says("connected to the MQTT broker")
    async with scene.publisher() as publisher:
        async for orders in scene.rounds(size):
            half = (len(orders) + 1) // 2  # one at least, for somebody to work on
            await publisher.publish(orders[:half])
            victim = await scene.fleet.working()
            await scene.moment(0.2)
            scene.fleet.replace(victim)
            await scene.fleet.stop(router)
            router = scene.fleet.start_router(**({} if MAIN in router.env else old))
            await publisher.publish(orders[half:])
            await router.says("connected to the MQTT broker")


RUN = Run(
    play,
    asked=Size(jobs=5_000, faults=20),
    short=Size(jobs=100, faults=2),
    share=1,
    broker=True,
    lacks=previous.missing,
)
