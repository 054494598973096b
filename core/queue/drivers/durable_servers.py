"""Whether servers can be asked for a durability: before anything relies on it."""

from __future__ import annotations

from redis.exceptions import NoPermissionError, ResponseError

from core.errors import QueueUnavailableError, SettingError
from core.queue.drivers.cluster_connection import ClusterConnection
from core.queue.drivers.durability import Ask, Durability
from core.queue.drivers.pipelined_connection import PipelinedConnection
from core.redis_client import FAULTS, RedisClient, is_refusal, raise_explained, server_of

_AT_ONCE = 0.001
"""Seconds: nothing was written over this connection, so there is nothing to wait for."""


async def require(
    client: RedisClient, connection: PipelinedConnection | ClusterConnection, durability: Durability
) -> None:
    """Ask each server that takes writes.

    Raises SettingError where it cannot do it as it is set up, and QueueUnavailableError where it is not reached, or
    has not enough replicas for now: those may come back.
    """
    try:
        for each in await connection.masters():
            await _require_of(each.ask, server_of(client), durability)
    except FAULTS as error:
        raise_explained(error, client, QueueUnavailableError)


async def _require_of(ask: Ask, server: str, durability: Durability) -> None:
    try:
        lack = durability.lack(await ask(*durability.wait(_AT_ONCE)))
    except ResponseError as error:
        if "replica instances" in str(error):  # it was the master a moment ago
            raise QueueUnavailableError(f"{server} is a replica for now: {error}", server=server) from error
        if _is_passing(error):
            raise
        raise SettingError(_unusable(durability, f"{server} answers {str(error)!r}")) from error
    if fault := await durability.fault(ask):
        raise SettingError(_unusable(durability, f"{server} {fault}"))
    if lack:
        raise QueueUnavailableError(
            f"{server} was given no job, as it cannot do for now what QUEUE_REDIS_DURABILITY={durability} asks for: of "
            f"the data it has, {lack}. {durability.remedy}",
            server=server,
        )


def _is_passing(error: ResponseError) -> bool:
    """Whether the server refuses everything for now, or became a replica while it was asked."""
    return (is_refusal(error) and not isinstance(error, NoPermissionError)) or str(error).startswith("UNBLOCKED")


def _unusable(durability: Durability, reason: str) -> str:
    value = str(durability)
    return (
        f"QUEUE_REDIS_DURABILITY={value!r} is not usable: {reason}. {durability.takes} in the environment or in .env."
    )
