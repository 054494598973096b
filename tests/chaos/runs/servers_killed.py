"""The store and the broker are killed, and started again on what they have on disk, while work comes in."""

from __future__ import annotations

from tests.chaos.outages import BROKER, Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene
from tests.chaos.stores import missing
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.process import ServerProcess

SAVES_AT_ONCE = "autosave_interval 1\nautosave_on_changes true"
"""Settings of a mosquitto that survives its kill, but for the one message that it acknowledged last."""


async def play(scene: Scene, size: Size) -> None:
    assert scene.store.server
    with MosquittoProcess(settings=SAVES_AT_ONCE) as broker:
        store = _kill(scene.store.kind, scene.store.server, size)
        await hurt(scene, size, [store, _kill(BROKER, broker, size), store, store], broker)


def _kill(name: str, server: ServerProcess, size: Size) -> Harm:
    return Harm(name, "killed", server.kill, server.start, size.lasting)


RUN = Run(
    play,
    asked=Size(jobs=0, faults=28, lasting=5.0),
    short=Size(jobs=0, faults=2, lasting=4.0),
    share=2,
    stores=("redis", "postgresql", "mariadb"),
    lacks=lambda: missing("mosquitto"),
    waits=True,
)
