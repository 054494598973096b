"""The store does what it is asked, and every so often nobody is told: the proxy on the way cuts its answer off.

No job of these may fail, and some may be tried once only: a try that was counted and never began would show.
"""

from __future__ import annotations

import time
from math import inf
from random import Random

from tests.chaos.app.orders import Kind
from tests.chaos.outages import fleet_at
from tests.chaos.proxy import LostAnswers, Proxy
from tests.chaos.run import Run, Size
from tests.chaos.runs.servers_cut_off import through
from tests.chaos.scene import Scene

KINDS: dict[Kind, int] = {"plain": 40, "once": 40, "thread": 10, "doomed": 10}
ONE_IN = 20
"""Answers."""
LEASE = 15.0
"""Seconds. A transaction takes some answers, and a new connection more: for a short lease, the store would be away."""


async def play(scene: Scene, size: Size) -> None:
    server = scene.store.server
    assert server
    scene.mix = scene.mix_of(KINDS, longest_delay=0.5)
    with Proxy(server.host, server.port) as proxy:
        scene.env |= {**through(proxy, scene), "QUEUE_LEASE": str(LEASE)}
        scene.answers_lost.append((time.monotonic(), inf))
        async with fleet_at(scene, scene.broker), scene.publisher() as publisher:
            proxy.judge_by(LostAnswers(Random(scene.random.random()), ONE_IN))
            async for orders in scene.rounds(size):
                half = len(orders) // 2
                await publisher.publish(orders[:half])
                await scene.dispatch(orders[half:])
            await scene.until_all_done()
            proxy.judge_by(None)
        scene.faults["answers lost"] = proxy.cuts


RUN = Run(
    play,
    asked=Size(jobs=20_000, faults=200),
    short=Size(jobs=500, faults=5),
    share=4,
    stores=("redis", "postgresql", "mariadb"),
    broker=True,
)
