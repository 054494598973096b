"""A client of Redis Cluster whose connections have a bound, as those to a single server have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio.cluster import ClusterNode, RedisCluster

from core.redis.address import ClusterAddress

_SILENCE = 4.0
"""Seconds after which a node that gives no answer is taken to be gone, and the others are asked who serves its slots.
Short enough for two of them within the time that a caller has."""
_FOR_SUBSCRIBERS = 2
"""Connections to each node that are left for whoever keeps one."""


class Cluster(RedisCluster):
    """It finds out by itself that slots are served by other nodes, and tries nothing twice that may have been done."""

    def __init__(self, address: ClusterAddress, options: Mapping[str, Any]) -> None:
        """`options` of a connection, and `max_connections` to one node."""
        self.address = address
        settings = {**options, "socket_timeout": _SILENCE, **address.options}
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
            require_full_coverage=False,  # one that some slots are missing of serves the others
            **settings,
        )
        self._room = asyncio.Semaphore(settings["max_connections"] - _FOR_SUBSCRIBERS)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        async with self._room:  # redis-py refuses instead of waiting
            return await super().execute_command(*args, **options)

    async def aclose(self) -> None:
        """redis-py leaves connections open where an error has it look for the nodes anew, or closing one raises."""
        async with AsyncExitStack() as closing:  # what is pushed last is done first
            closing.push_async_callback(self._left)
            closing.push_async_callback(self.nodes_manager.aclose, "startup_nodes")
            closing.push_async_callback(self.nodes_manager.aclose)
            await super().aclose()

    async def _left(self) -> None:
        """Wait for the closing of the connections to nodes that have just left the cluster."""
        await asyncio.gather(*self.nodes_manager._background_tasks, return_exceptions=True)  # noqa: SLF001
