"""Makes clients of Redis from the settings, and says what is meant by a server that is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from core.errors import UnavailableError

if TYPE_CHECKING:
    from config.redis import RedisSettings

ANSWER_TIMEOUT = 10.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
POOL_TIMEOUT = 30.0
"""Seconds to wait for a connection while all of them are in use."""


def address(settings: RedisSettings) -> str:
    """Where the server is, without user and password: for messages."""
    return _place(parse_url(settings.url.get_secret_value()) if settings.url else settings.address())


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
        # With these, a pooled connection is not looked at before it is used, and may have been closed.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 0),
        "max_connections": settings.max_connections,
        "timeout": POOL_TIMEOUT,
    }
    if settings.url is not None:
        pool = BlockingConnectionPool.from_url(settings.url.get_secret_value(), **options)
    else:
        pool = BlockingConnectionPool(**settings.address(), **options)
    return Redis.from_pool(pool)


OUT_OF_REACH = (RedisConnectionError, RedisTimeoutError, OSError)  # it is loading its data, too
FAULTS = (*OUT_OF_REACH, RedisError)
_REFUSES = (OutOfMemoryError, ReadOnlyError, ClusterDownError, TryAgainError, NoPermissionError)  # MASTERDOWN, too
_REFUSAL = re.compile(
    r"(?:^|: -)(?:OOM|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|NOPERM|MISCONF|NOREPLICAS|BUSY|LOADING) "
)
"""Refusals without a class of their own; or, of Redis 6, inside the error of a script."""
_READ_ONLY = re.compile(r": -READONLY ")
"""The refusal of a replica, inside the error of a script."""


_REMEDY = "Start it, or correct REDIS_URL (or REDIS_HOST and REDIS_PORT)."


@asynccontextmanager
async def reached(client: Redis, unavailable: type[UnavailableError] = UnavailableError) -> AsyncIterator[None]:
    """Ask a server something within ANSWER_TIMEOUT.

    Raises `unavailable`, with the address, where it is not reached, gives no answer, or serves nobody for now:
    its memory or disk is full, its replicas are missing, a script keeps it busy. What was asked may have happened.
    Other errors are the caller's.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            yield
    except FAULTS as error:
        raise_explained(error, client, unavailable)


def raise_explained(
    error: Exception, client: Redis, unavailable: type[UnavailableError] = UnavailableError
) -> NoReturn:
    """Raise one of FAULTS as `reached` does: as `unavailable`, or as it is where it is the caller's."""
    if isinstance(error, OUT_OF_REACH):
        reason = f": {error}" if str(error) else f" within {ANSWER_TIMEOUT:g} s"
        raise unavailable(f"Redis at {_address(client)} gave no answer{reason}. {_REMEDY}") from error
    if _is_refusal(error):
        raise unavailable(f"Redis at {_address(client)} serves nobody for now: {error}") from error
    raise error


def is_read_only(reply: object) -> bool:
    """Whether a reply is the refusal of a server that was the master, and is a replica now."""
    if isinstance(reply, ReadOnlyError):
        return True
    return isinstance(reply, ResponseError) and _READ_ONLY.search(str(reply)) is not None


def _is_refusal(error: Exception) -> bool:
    """Whether it is the server's state that is in the way, and not what was asked."""
    is_plain = isinstance(error, ResponseError) and _REFUSAL.search(str(error)) is not None
    return is_plain or isinstance(error, _REFUSES)


def _address(client: Redis) -> str:
    return _place(client.connection_pool.connection_kwargs)


def _place(options: Mapping[str, Any]) -> str:
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
