"""Connections to whichever server the Sentinels say is the master at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.redis.address import Host, SentinelAddress

_ANSWER_IN = 1.0
"""Seconds that one Sentinel gets; then the next is asked."""


class MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """Asks the Sentinels for each connection that it makes. Where all are in use, whoever wants one waits.

    The connections to a former master are not its to end: they are closed by that server, when it is made a replica,
    or are left by who meets its refusal to write, or its silence.
    """

    def __init__(self, address: SentinelAddress, options: Mapping[str, Any]) -> None:
        """`options` of a connection to the master and, those of its socket and its retries, of one to a Sentinel."""
        self.address = address
        self.sentinels = Sentinels(address.sentinels, {**_of_any(options), **address.sentinel_options})
        super().__init__(  # type: ignore[no-untyped-call]
            address.master, self.sentinels, **{**options, **address.options}
        )

    async def aclose(self) -> None:
        """Close the connections to the master and to the Sentinels, each whatever the closing of another raises."""
        try:
            await super().aclose()
        finally:
            await self.sentinels.aclose()


class Sentinels:
    """In place of redis-py's Sentinel, which loses some of them when several connections are made at a time."""

    def __init__(self, hosts: tuple[Host, ...], options: Mapping[str, Any]) -> None:
        """`options` of a connection."""
        self._sentinels = [_Sentinel(host=host, port=port, **options) for host, port in hosts]

    async def discover_master(self, name: str) -> Host:
        """Where it is.

        Raises MasterNotFoundError, a redis.ConnectionError, where it is down, unknown to all, or none is a Sentinel.
        """
        failures: list[str] = []
        for each in self._sentinels.copy():
            try:
                masters: Any = await each.sentinel_masters()
            except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
                failures.append(f"{each.place}: {error}")
                continue
            state = masters.get(name)
            if state and state["is_master"] and not (state["is_sdown"] or state["is_odown"]):
                self._prefer(each)
                return state["ip"], state["port"]
        raise MasterNotFoundError(f"No master found for {name!r}" + "".join(f"; {failure}" for failure in failures))

    async def aclose(self) -> None:
        """Close the connection to each, whatever the closing of another raises."""
        async with AsyncExitStack() as closing:
            for each in self._sentinels:
                closing.push_async_callback(each.aclose)

    def _prefer(self, sentinel: _Sentinel) -> None:
        """Ask the one that answered first, the next time."""
        self._sentinels.remove(sentinel)
        self._sentinels.insert(0, sentinel)


class _Sentinel(Redis):
    @property
    def place(self) -> str:
        where = self.connection_pool.connection_kwargs
        return f"{where['host']}:{where['port']}"

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_IN):
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            await self.connection_pool.disconnect()  # one that is cut off while it greets would be taken for ready
            raise RedisTimeoutError(f"no answer within {_ANSWER_IN:g} s") from error


def _of_any(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that have nothing to do with what is asked of the server."""
    names = ("socket_connect_timeout", "socket_timeout", "socket_keepalive", "maint_notifications_config", "retry")
    return {name: value for name, value in options.items() if name in names}
