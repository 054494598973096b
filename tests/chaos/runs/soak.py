"""A steady load of messages and jobs of all kinds: nothing grows but what is queued."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.fleet import Member
from tests.chaos.growth import Resources, growth
from tests.chaos.mix import ALL_KINDS
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

PACE = 0.1
"""Seconds between two samples, and between two handfuls of orders."""
PER_SECOND = 20
"""Orders; a load under which the machine has time for others."""
WARM_UP = 300
"""Orders before the first sample, so many that each worker has given up one."""
ALLOWED = {"memory": (0.05, 4.0), "descriptors": (0.0, 4.0), "tasks": (0.0, 40.0), "threads": (0.0, 2.0)}
"""By what is measured: the share of itself by which it may grow, or the number. Tasks follow the moment's load."""


async def play(scene: Scene, size: Size) -> None:
    scene.mix = scene.mix_of(ALL_KINDS, once=0.0)  # of those, keys stay in the store for a while
    census = scene.directory / "census"
    census.mkdir()
    scene.env["CENSUS"] = str(census)
    members = [scene.fleet.start_router(), *(scene.fleet.start_worker(queues="chaos,processes") for _ in range(2))]
    await members[0].says("connected to the MQTT broker")
    async with scene.publisher() as publisher:  # what is loaded at the first job of a kind, or at the first failure
        await publisher.publish(scene.mix.take(WARM_UP))
    await scene.until_all_done()
    resources = {member.name: Resources(member.pid, census) for member in members}
    begun = time.monotonic()
    async with scene.publisher() as publisher:
        orders = 0
        while orders < size.jobs and time.monotonic() < scene.until:
            few = round(PER_SECOND * PACE)
            orders += few
            await publisher.publish(scene.mix.take(few))
            for each in resources.values():
                each.sample()
            await asyncio.sleep(max(0.0, begun + orders / PER_SECOND - time.monotonic()))
    scene.count("steady load")
    await scene.until_all_done()
    _look_for_growth(scene, members, resources)
    await _look_into_store(scene)


def _look_for_growth(scene: Scene, members: list[Member], resources: dict[str, Resources]) -> None:
    for member in members:
        for what, values in resources[member.name].series().items():
            grown = growth(values)
            if grown is None:
                continue
            scene.note(f"{member.name}: {what} {grown.settled:.1f} once settled, {grown.end:.1f} at the end")
            if grown.is_beyond(*ALLOWED[what]):
                scene.find("growth", f"{member.name}: {what}", f"from {grown.settled:.1f} to {grown.end:.1f}")


async def _look_into_store(scene: Scene) -> None:
    """All is done: what is left but the rows of failed jobs was left behind."""
    left = await scene.store.leftovers()
    scene.note(f"left in the store: {left or 'nothing'}")
    for name, count in left.items():
        scene.find("left behind", name, f"{count} of them")


HALF_AN_HOUR = 1800
RUN = Run(
    play,
    asked=Size(jobs=HALF_AN_HOUR * PER_SECOND, faults=1),
    short=Size(jobs=150, faults=1),
    share=2,
    broker=True,
    waits=True,
)
