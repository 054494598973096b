"""Makes clients of Redis from the settings, and says what is meant by a server that is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from core.errors import UnavailableError
from core.redis.address import ClusterAddress, RedisAddress, SentinelAddress, ServerAddress
from core.redis.cluster import Cluster
from core.redis.sentinel import MasterPool

if TYPE_CHECKING:
    from config.redis import RedisSettings

RedisClient: TypeAlias = Redis | Cluster

ANSWER_TIMEOUT = 10.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
POOL_TIMEOUT = 30.0
"""Seconds to wait for a connection while all of them are in use."""


def new_redis(settings: RedisSettings, *, decode_responses: bool = False) -> RedisClient:
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
    }
    address = settings.address()
    if isinstance(address, ClusterAddress):
        return Cluster(address, options)
    options["timeout"] = POOL_TIMEOUT
    if isinstance(address, SentinelAddress):
        return Redis.from_pool(MasterPool(address, options))
    return Redis.from_pool(BlockingConnectionPool(**{**options, **address.options}))


async def subscriber(client: RedisClient) -> PubSub:
    """For channels of the whole store. In a cluster it listens at any node, as each hears of what the others are told:
    at another one each time, since the last may be gone."""
    if isinstance(client, Redis):
        return client.pubsub()
    await client.initialize()
    return client.pubsub(node=client.get_random_node())


OUT_OF_REACH = (RedisConnectionError, RedisTimeoutError, OSError)  # it is loading its data, too
FAULTS = (*OUT_OF_REACH, RedisError, RedisClusterException)
_REFUSES = (
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,  # MASTERDOWN, too
    TryAgainError,
    AskError,  # MOVED, too: a slot that is sent from node to node, or one whose new node is not known yet
    ClusterError,
    SlotNotCoveredError,
    NoPermissionError,
)
_REFUSAL = re.compile(
    r"(?:^|: -)(?:OOM|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|NOPERM|MISCONF|NOREPLICAS|BUSY|LOADING) "
)
"""Refusals without a class of their own; or, of Redis 6, inside the error of a script."""
_READ_ONLY = re.compile(r": -READONLY ")
"""The refusal of a replica, inside the error of a script."""


class ClosedError(RedisConnectionError):
    """This process closed the connection, for the reason that the message gives: the server may well be there."""


_REMEDY = "Start it, or correct REDIS_URL (or REDIS_HOST and REDIS_PORT)."


@asynccontextmanager
async def reached(client: RedisClient, unavailable: type[UnavailableError] = UnavailableError) -> AsyncIterator[None]:
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
    error: Exception, client: RedisClient, unavailable: type[UnavailableError] = UnavailableError
) -> NoReturn:
    """Raise one of FAULTS as `reached` does: as `unavailable`, or as it is where it is the caller's."""
    server = server_of(client)
    if _is_out_of_reach(error):
        reason = f": {str(error).rstrip('.')}" if str(error) else f" within {ANSWER_TIMEOUT:g} s"
        remedy = "" if isinstance(error, ClosedError) else f" {_REMEDY}"
        raise unavailable(f"{server} gave no answer{reason}.{remedy}", server=server) from error
    if isinstance(error, MovedError) and not isinstance(client, Cluster):
        raise unavailable(
            f"{server} is a node of a cluster, and not the one that serves this: {error}. Write redis+cluster:// in "
            "REDIS_URL.",
            server=server,
        ) from error
    if is_refusal(error):
        raise unavailable(f"{server} serves nobody for now: {error}", server=server) from error
    raise error


def is_read_only(reply: object) -> bool:
    """Whether a reply is the refusal of a server that was the master, and is a replica now."""
    if isinstance(reply, ReadOnlyError):
        return True
    return isinstance(reply, ResponseError) and _READ_ONLY.search(str(reply)) is not None


def server_of(client: RedisClient) -> str:
    """How messages name it, and errors say which server was away."""
    return f"Redis at {address_of(client)}"


def address_of(client: RedisClient) -> RedisAddress:
    """Where a client's server is, without user and password: for messages."""
    if isinstance(client, Cluster):
        return client.address
    pool = client.connection_pool
    return pool.address if isinstance(pool, MasterPool) else ServerAddress(pool.connection_kwargs)


def _is_out_of_reach(error: Exception) -> bool:
    """Of a cluster, too: no node told which of them serve what, for the reason that redis-py gives as the cause."""
    is_no_node_reached = isinstance(error, RedisClusterException) and error.__cause__ is not None
    return is_no_node_reached or isinstance(error, OUT_OF_REACH)


def is_refusal(error: Exception) -> bool:
    """Whether it is the server's state that is in the way, and not what was asked."""
    is_plain = isinstance(error, ResponseError) and _REFUSAL.search(str(error)) is not None
    return is_plain or isinstance(error, _REFUSES)
