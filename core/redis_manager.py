"""`redis_manager`: Redis for users' code, with plain words and errors that are raised, not swallowed.

A server that is away, or gives no answer within ten seconds, is an UnavailableError: a controller that lets it
pass is run again once the server is back, and has used up none of its tries.

    from core.redis_manager import redis_manager

    await redis_manager.set_json("last-seen:pump-7", {"at": 1732269000}, ttl=3600)

Keys are used as they are given. Values are text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core.errors import NotRunningError

if TYPE_CHECKING:
    from core.redis_client import RedisClient

_LOST = -2
_WITHOUT_END = -1


class RedisManager:
    """A door to the Redis of the open Application; bound and unbound by it."""

    def __init__(self) -> None:
        self._bound: list[tuple[RedisClient | None, str]] = []

    def bind(self, client: RedisClient | None, prefix: str) -> None:
        """Speak to this client (with decode_responses) until `unbind`; None where Redis is not configured."""
        self._bound.append((client, prefix))

    def unbind(self, client: RedisClient | None, prefix: str) -> None:
        """End what `bind` began."""
        self._bound.remove((client, prefix))

    @property
    def is_configured(self) -> bool:
        """Whether the open Application has a Redis: REDIS_URL or REDIS_HOST, or QUEUE_CONNECTION=redis."""
        return bool(self._bound) and self._bound[-1][0] is not None

    def client(self) -> RedisClient:
        """The client itself, for whatever has no method here. Raises NotRunningError where there is none."""
        client = self._bound[-1][0] if self._bound else None
        if client is None:
            raise NotRunningError(
                "redis_manager has no Redis: set REDIS_URL, and use it inside a controller, a job, or "
                "`async with Application():`."
            )
        return client

    def key(self, name: str) -> str:
        """`name` behind REDIS_PREFIX, as the framework's own keys are."""
        return f"{self._bound[-1][1] if self._bound else ''}{name}"

    async def get(self, key: str) -> str | None:
        value: str | None = await self._ask(lambda client: client.get(key))
        return value

    async def set(self, key: str, value: str | float | bytes, ttl: float | None = None) -> None:
        """Set a key; with `ttl`, it is gone after so many seconds."""
        await self._ask(lambda client: client.set(key, value, px=None if ttl is None else round(ttl * 1000)))

    async def incr(self, key: str, amount: int = 1) -> int:
        return int(await self._ask(lambda client: client.incr(key, amount)))

    async def expire(self, key: str, seconds: float) -> bool:
        """Let a key be gone after so many seconds; False where there is no such key."""
        return bool(await self._ask(lambda client: client.pexpire(key, round(seconds * 1000))))

    async def delete(self, *keys: str) -> int:
        """How many of these keys there were."""
        return int(await self._ask(lambda client: client.delete(*keys))) if keys else 0

    async def exists(self, key: str) -> bool:
        return bool(await self._ask(lambda client: client.exists(key)))

    async def ttl(self, key: str) -> float | None:
        """Seconds that a key has left; None where it has no end, KeyError where there is no such key."""
        left = int(await self._ask(lambda client: client.pttl(key)))
        if left == _LOST:
            raise KeyError(key)
        return None if left == _WITHOUT_END else left / 1000

    async def hget(self, key: str, field: str) -> str | None:
        value: str | None = await self._ask(lambda client: client.hget(key, field))
        return value

    async def hset(self, key: str, field: str, value: str | float | bytes) -> bool:
        """Set a field of a hash; whether it is new."""
        return bool(await self._ask(lambda client: client.hset(key, field, value)))

    async def get_json(self, key: str) -> Any:
        """What `set_json` stored; None where there is no such key. Raises msgspec.DecodeError for other text."""
        value = await self.get(key)
        return None if value is None else msgspec.json.decode(value)

    async def set_json(self, key: str, value: Any, ttl: float | None = None) -> None:
        await self.set(key, msgspec.json.encode(value), ttl)

    async def _ask(self, command: Callable[[RedisClient], Awaitable[Any]]) -> Any:
        client = self.client()
        from core.redis_client import reached  # where there is a client, the library is loaded

        async with reached(client):
            return await command(client)


redis_manager = RedisManager()
