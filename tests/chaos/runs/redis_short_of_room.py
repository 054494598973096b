"""Redis forgets its scripts, and has no memory left for what is new, while work comes in."""

from __future__ import annotations

from redis import Redis

from tests.chaos.outages import Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene


async def play(scene: Scene, size: Size) -> None:
    with Redis.from_url(scene.env["REDIS_URL"]) as redis:
        harms = [
            Harm("redis", "scripts flushed", redis.script_flush, lambda: None, 0.1, is_away=False),
            Harm("redis", "memory full", lambda: _limit(redis, 1), lambda: _limit(redis, 0), size.lasting),
        ]
        await hurt(scene, size, harms, scene.broker)


def _limit(redis: Redis, size: int) -> None:
    redis.config_set("maxmemory", size)


RUN = Run(
    play,
    asked=Size(jobs=0, faults=40, lasting=5.0),
    short=Size(jobs=0, faults=2, lasting=3.0),
    share=2,
    stores=("redis",),
    broker=True,
)
