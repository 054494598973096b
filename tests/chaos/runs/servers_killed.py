"""The store and the broker are killed, and started again on what they have on disk, while work comes in."""

from __future__ import annotations

from tests.chaos.outages import BROKER, Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.process import ServerProcess

LONGEST = 5.0
"""Seconds that a server is dead at most."""
SAVES_AT_ONCE = "autosave_interval 1\nautosave_on_changes true"
"""Settings of a mosquitto that survives its kill, but for the one message that it acknowledged last."""
SHORT = Size(jobs=0, faults=2)


async def play(scene: Scene, size: Size) -> None:
    assert scene.store.server
    with MosquittoProcess(settings=SAVES_AT_ONCE) as broker:
        harms = [_kill(scene.store.kind, scene.store.server), _kill(BROKER, broker)]
        await hurt(scene, harms, size.faults, broker, is_long=size.faults > SHORT.faults)


def _kill(name: str, server: ServerProcess) -> Harm:
    return Harm(name, "killed", server.kill, server.start, LONGEST)


RUN = Run(play, asked=Size(jobs=0, faults=40), short=SHORT, share=4, stores=("redis", "postgresql", "mariadb"))
