"""The store and the broker stand still, each for so long that every lease runs out, while work comes in."""

from __future__ import annotations

from tests.chaos.outages import BROKER, Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene
from tests.chaos.stores import missing
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.process import ServerProcess


async def play(scene: Scene, size: Size) -> None:
    assert scene.store.server
    with MosquittoProcess() as broker:
        store = _freeze(scene.store.kind, scene.store.server, size)
        await hurt(scene, size, [store, _freeze(BROKER, broker, size), store, store], broker)


def _freeze(name: str, server: ServerProcess, size: Size) -> Harm:
    return Harm(name, "frozen", server.freeze, server.thaw, size.lasting, at_most=False)


RUN = Run(
    play,
    asked=Size(jobs=0, faults=28, lasting=20.0),
    short=Size(jobs=0, faults=2, lasting=5.0),
    share=9,
    stores=("redis", "postgresql", "mariadb"),
    lacks=lambda: missing("mosquitto"),
    waits=True,
)
