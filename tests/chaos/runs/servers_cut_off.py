"""On the way to the store or the broker, the network refuses, falls silent, slows down, and cuts off in mid-packet."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.chaos.outages import BROKER, Harm, hurt
from tests.chaos.proxy import Proxy, RandomCuts
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene
from tests.chaos.stores import missing
from tests.servers.mosquitto import MosquittoProcess

REFUSED, ILL = 5.0, 3.0
"""Seconds at most."""
ONE_IN = 10
"""Pieces that are cut."""


async def play(scene: Scene, size: Size) -> None:
    server = scene.store.server
    assert server
    with (
        MosquittoProcess() as broker,
        Proxy(server.host, server.port) as to_store,
        Proxy(broker.host, broker.port) as to_broker,
    ):
        scene.env |= through(to_store, scene)
        store, device = _harms(scene, scene.store.kind, to_store, size), _harms(scene, BROKER, to_broker, size)
        await hurt(scene, size, [*store, *device[:2], *store, *device[2:]], to_broker, device=broker)


def through(proxy: Proxy, scene: Scene) -> dict[str, str]:
    """The setting with which the fleet reaches its store by way of a proxy."""
    name = "REDIS_URL" if scene.store.kind == "redis" else "DATABASE_URL"
    return {name: proxy.at(scene.env[name])}


def _harms(scene: Scene, name: str, proxy: Proxy, size: Size) -> Sequence[Harm]:
    """Silence lasts longest: there is a time after which each server is given up."""
    cuts = RandomCuts(Random(scene.random.random()), ONE_IN)
    return [
        Harm(name, "refused", proxy.refuse, proxy.pass_on, REFUSED),
        Harm(name, "silent", proxy.fall_silent, proxy.pass_on, size.lasting),
        Harm(name, "slow", lambda: proxy.slow_down(0.3), proxy.pass_on, ILL, is_away=False),
        Harm(name, "cut", lambda: proxy.judge_by(cuts), lambda: proxy.judge_by(None), ILL, is_away=False),
    ]


RUN = Run(
    play,
    asked=Size(jobs=0, faults=36, lasting=15.0),
    short=Size(jobs=0, faults=6, lasting=5.0),
    share=4,
    stores=("redis", "postgresql", "mariadb"),
    lacks=lambda: missing("mosquitto"),
    waits=True,
)
