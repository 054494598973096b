"""On the way to the store or the broker, the network refuses, falls silent, slows down, and cuts off in mid-packet."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.chaos.outages import BROKER, Harm, hurt
from tests.chaos.proxy import Proxy, RandomCuts
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

SECONDS, SECONDS_IN_SHORT = 15.0, 5.0
"""That it is silent at most. Beyond ten, Redis is given up; beyond the lease, jobs are."""
SHORT = Size(jobs=0, faults=8)


async def play(scene: Scene, size: Size) -> None:
    assert scene.store.server
    is_long = size.faults > SHORT.faults
    server, broker = scene.store.server, scene.broker
    with Proxy(server.host, server.port) as to_store, Proxy(broker.host, broker.port) as to_broker:
        url = "REDIS_URL" if scene.store.kind == "redis" else "DATABASE_URL"
        scene.env[url] = to_store.at(scene.env[url])
        silence = SECONDS if is_long else SECONDS_IN_SHORT
        harms = [*_harms(scene, scene.store.kind, to_store, silence), *_harms(scene, BROKER, to_broker, silence)]
        await hurt(scene, harms, size.faults, to_broker, is_long=is_long, device=broker)


def _harms(scene: Scene, name: str, proxy: Proxy, silence: float) -> Sequence[Harm]:
    cuts = RandomCuts(Random(scene.random.random()), one_in=10)
    return [
        Harm(name, "refused", proxy.refuse, proxy.pass_on, 5.0),
        Harm(name, "silent", proxy.fall_silent, proxy.pass_on, silence),
        Harm(name, "slow", lambda: proxy.slow_down(0.3), proxy.pass_on, 3.0, is_away=False),
        Harm(name, "cut", lambda: proxy.judge_by(cuts), lambda: proxy.judge_by(None), 3.0, is_away=False),
    ]


RUN = Run(
    play, asked=Size(jobs=0, faults=160), short=SHORT, share=10, stores=("redis", "postgresql", "mariadb"), broker=True
)
