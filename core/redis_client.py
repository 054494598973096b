"""Makes clients of Redis from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from config.redis import RedisSettings

CONNECT_TIMEOUT = 5.0  # seconds
POOL_TIMEOUT = 30.0
"""Seconds to wait for a connection while all of them are in use."""


def new_redis(settings: RedisSettings, *, decode_responses: bool = False) -> Redis:
    """A client with a bounded pool of its own; nothing is connected yet.

    It tries nothing twice by itself: whoever asked knows whether that is safe.
    """
    options: dict[str, Any] = {
        "decode_responses": decode_responses,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        # A timeout for answers is the caller's: with one of its own, redis-py makes a task of every command,
        # and on Python 3.11 it swallows cancellations. Keepalive finds out a peer that is gone.
        "socket_timeout": None,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": settings.max_connections,
        "timeout": POOL_TIMEOUT,
    }
    if settings.url is not None:
        pool = BlockingConnectionPool.from_url(settings.url.get_secret_value(), **options)
    else:
        pool = BlockingConnectionPool(**settings.address(), **options)
    return Redis.from_pool(pool)
