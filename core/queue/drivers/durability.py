"""QUEUE_REDIS_DURABILITY: where a job is to be stored, besides the memory of the server, when its dispatch returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from redis.exceptions import ResponseError

from core.queue.drivers.pipelined_connection import Command

Ask: TypeAlias = Callable[..., Awaitable[Any]]
"""Asks a server: a command in words."""

_TRUE_SINCE = 8
"""The version of Redis from which on WAITAOF tells the truth whatever appendfsync is. Valkey calls itself 7 there."""


class Durability(ABC):
    takes: str
    """What a server needs for it."""
    remedy: str
    """What to look at where it does not come about."""

    @abstractmethod
    def wait(self, seconds: float) -> Command:
        """What has a server answer once all that was written over the same connection is stored there, after
        `seconds` at the latest."""

    @abstractmethod
    def lack(self, reply: Any) -> str | None:
        """What is missing, by the answer to `wait`; None where nothing is."""

    async def fault(self, ask: Ask) -> str | None:
        """What keeps us from taking a server at its word."""
        return None


class OnDisk(Durability):
    takes = (
        "It takes Redis 7.2 or Valkey with `appendonly yes` and `appendfsync always` (from Redis 8 on, `everysec` will "
        "do), and the command WAITAOF for the user of REDIS_URL; or set `replicas:N` or `memory`"
    )
    remedy = "See what holds up its disk, or set QUEUE_REDIS_DURABILITY to replicas:N or memory."

    def __str__(self) -> str:
        return "fsync"

    def wait(self, seconds: float) -> Command:
        return "WAITAOF", 1, 0, round(seconds * 1000)

    def lack(self, reply: Any) -> str | None:
        return None if reply[0] else "its disk does not have it"

    async def fault(self, ask: Ask) -> str | None:
        """WAITAOF of Redis 7 and of Valkey answers too early while the disk is synced every second only
        (redis/redis#13793). With `always`, they sync it before they answer anything."""
        policy = await _sync_policy(ask)
        if policy == "no":
            return "has `appendfsync no`, and never knows what its disk has"
        version = str((await ask("INFO", "server"))["redis_version"])
        if policy == "always" or int(version.partition(".")[0]) >= _TRUE_SINCE:
            return None
        return f"has {f'`appendfsync {policy}`' if policy else 'a hidden appendfsync'}, and is not Redis 8"


@dataclass(frozen=True)
class OnReplicas(Durability):
    count: int

    takes = "Give the user of REDIS_URL the command WAIT, or set `memory`"
    remedy = "See that they are connected and keep up, or set QUEUE_REDIS_DURABILITY to fewer of them."

    def __str__(self) -> str:
        return f"replicas:{self.count}"

    def wait(self, seconds: float) -> Command:
        return "WAIT", self.count, round(seconds * 1000)

    def lack(self, reply: Any) -> str | None:
        return f"{reply} of {self.count} replicas have it" if reply < self.count else None


def read_durability(setting: str) -> Durability | None:
    """`memory`, for which there is nothing to wait, `fsync`, or `replicas:N`."""
    if setting == "memory":
        return None
    return OnDisk() if setting == "fsync" else OnReplicas(int(setting.removeprefix("replicas:")))


async def _sync_policy(ask: Ask) -> str | None:
    """None where we may not ask for it."""
    with suppress(ResponseError):
        (policy,) = (await ask("CONFIG GET", "appendfsync")).values()
        return policy.decode() if isinstance(policy, bytes) else str(policy)
    return None
