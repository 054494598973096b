"""Whether servers can be asked for a durability: before anything relies on it."""

from __future__ import annotations

from functools import partial

from redis.exceptions import ResponseError

from core.errors import QueueUnavailableError, SettingError
from core.queue.drivers.durability import Ask, Durability
from core.redis.cluster import Cluster
from core.redis_client import RedisClient, address_of, reached

_AT_ONCE = 0.001
"""Seconds: nothing was written over this connection, so there is nothing to wait for."""


async def require(client: RedisClient, durability: Durability) -> None:
    """Ask each server that takes writes.

    Raises SettingError where it cannot do it as it is set up, and QueueUnavailableError where it is not reached, or
    has not enough replicas for now: those may come back.
    """
    async with reached(client, QueueUnavailableError):
        for ask in await _masters(client):
            await _require_of(ask, f"Redis at {address_of(client)}", durability)


async def _masters(client: RedisClient) -> list[Ask]:
    if not isinstance(client, Cluster):
        return [client.execute_command]
    await client.initialize()
    return [partial(client.execute_command, target_nodes=node) for node in client.get_primaries()]


async def _require_of(ask: Ask, server: str, durability: Durability) -> None:
    try:
        lack = durability.lack(await ask(*durability.wait(_AT_ONCE)))
    except ResponseError as error:
        if "replica instances" in str(error):  # it was the master a moment ago
            raise QueueUnavailableError(f"{server} is a replica for now: {error}") from error
        raise SettingError(_unusable(durability, f"{server} answers {str(error)!r}")) from error
    if fault := await durability.fault(ask):
        raise SettingError(_unusable(durability, f"{server} {fault}"))
    if lack:
        raise QueueUnavailableError(f"{server} has data of which {lack}. {durability.remedy}")


def _unusable(durability: Durability, reason: str) -> str:
    value = str(durability)
    return (
        f"QUEUE_REDIS_DURABILITY={value!r} is not usable: {reason}. {durability.takes} in the environment or in .env."
    )
