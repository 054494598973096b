"""Redis forgets its scripts, and has no memory left for what is new, while work comes in."""

from __future__ import annotations

from redis import Redis

from tests.chaos.outages import Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

SECONDS = 5.0
"""That its memory is full at most."""
SHORT = Size(jobs=0, faults=2)


async def play(scene: Scene, size: Size) -> None:
    with Redis.from_url(scene.env["REDIS_URL"]) as redis:
        harms = [
            Harm("redis", "scripts flushed", redis.script_flush, lambda: None, 0.1, is_away=False),
            Harm("redis", "memory full", lambda: _limit(redis, 1), lambda: _limit(redis, 0), SECONDS),
        ]
        await hurt(scene, harms, size.faults, scene.broker, is_long=size.faults > SHORT.faults)


def _limit(redis: Redis, size: int) -> None:
    redis.config_set("maxmemory", size)


RUN = Run(play, asked=Size(jobs=0, faults=40), short=SHORT, share=3, stores=("redis",), broker=True)
