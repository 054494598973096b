"""The store and the broker stand still, each for so long that every lease runs out, while work comes in."""

from __future__ import annotations

from tests.chaos.outages import BROKER, Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene
from tests.servers.process import ServerProcess

SECONDS, SECONDS_IN_SHORT = 20.0, 5.0
SHORT = Size(jobs=0, faults=2)


async def play(scene: Scene, size: Size) -> None:
    assert scene.store.server
    is_long = size.faults > SHORT.faults
    seconds = SECONDS if is_long else SECONDS_IN_SHORT
    harms = [_freeze(scene.store.kind, scene.store.server, seconds), _freeze(BROKER, scene.broker, seconds)]
    await hurt(scene, harms, size.faults, scene.broker, is_long=is_long)


def _freeze(name: str, server: ServerProcess, seconds: float) -> Harm:
    return Harm(name, "frozen", server.freeze, server.thaw, seconds, lasts=True)


RUN = Run(
    play, asked=Size(jobs=0, faults=40), short=SHORT, share=10, stores=("redis", "postgresql", "mariadb"), broker=True
)
