"""One pipelined connection to each node of a cluster: a command goes to the node that serves the slot of its key."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any, cast

from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection
from redis.exceptions import AskError, ClusterDownError, MovedError

from core.queue.drivers.lifetime import Lifetime
from core.queue.drivers.pipelined_connection import Command, PipelinedConnection, Replies
from core.redis.cluster import Cluster
from core.redis_client import FAULTS, OUT_OF_REACH, RedisClient

_REDIRECTIONS = 5
"""That one command follows; more are no move, but a disagreement among the nodes."""


class ClusterConnection:
    """Asks as a PipelinedConnection does. A command whose keys have moved follows them; one whose node is gone or
    gives no answer is not asked again, as it may have been done, and the next has the nodes looked for anew."""

    def __init__(self, client: Cluster, timeout: float) -> None:
        """`timeout`: see PipelinedConnection."""
        self._client = client
        self._timeout = timeout
        self._lifetime = Lifetime(timeout)
        self._nodes: dict[str, PipelinedConnection] = {}
        self._failed: str | None = ""
        """The node that makes us doubt the table of who serves what; at first there is no table to doubt."""

    async def ask(self, *command: str | bytes | int) -> Any:
        """The reply to a command. Raises RedisError or RedisClusterException."""
        reply, _ = await self.ask_at(*command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_all(self, *commands: Command) -> list[Any]:
        """The replies to commands that are asked at the same time, each at its node. An error is returned as it is."""
        asked = await asyncio.gather(*(self.ask_at(*command) for command in commands), return_exceptions=True)
        return [each if isinstance(each, BaseException) else each[0] for each in asked]

    async def ask_at(self, *command: str | bytes | int) -> tuple[Any, Replies]:
        """The reply to a command, an error as it is, and the connection over which it came."""
        node = await self._server_of(first_key(command))
        reply, replies = await self._ask_node(node.host, node.port, command)
        for _ in range(_REDIRECTIONS):
            if not isinstance(reply, MovedError):
                break
            with suppress(KeyError):  # looked up anew meanwhile, the table may have nobody for this slot
                await self._client.nodes_manager.move_slot(reply)
            reply, replies = await self._ask_node(reply.host, reply.port, command)
        if isinstance(reply, AskError) and not isinstance(reply, MovedError):
            return await self._ask_receiver(reply, command)
        return reply, replies

    async def masters(self) -> list[PipelinedConnection]:
        """A connection to each node that takes writes, as the others say at this moment."""
        await self._look_anew(self._failed or "")
        return [self._connection_to(node.host, node.port) for node in self._client.get_primaries()]

    async def close(self) -> None:
        """See PipelinedConnection. Each node is left, whatever leaving another raises."""
        async with AsyncExitStack() as closing:
            while self._nodes:
                _, node = self._nodes.popitem()
                closing.push_async_callback(node.close)
            await self._lifetime.end()

    async def _server_of(self, key: str) -> ClusterNode:
        if self._failed is not None:
            await self._look_anew(self._failed)
        return cast("ClusterNode", self._client.get_node_from_key(key))  # None is for a replica that is missing

    async def _look_anew(self, failed: str) -> None:
        await self._lifetime.limit(lambda: self._look(failed), "no node told who serves what")

    async def _look(self, failed: str) -> None:
        await self._client.nodes_manager.initialize(last_failed_node_name=failed)
        if self._failed == failed:
            self._failed = None
        for name in self._nodes.keys() - {node.name for node in self._client.get_nodes()}:
            if node := self._nodes.pop(name, None):  # others may be looking anew beside us
                await node.close("the node has left the cluster")

    async def _ask_node(self, host: str, port: str | int, command: Command) -> tuple[Any, Replies]:
        try:
            reply, replies = await self._connection_to(host, port).ask_at(*command)
        except FAULTS:
            self._failed = _name(host, port)
            raise
        if isinstance(reply, (ClusterDownError, *OUT_OF_REACH)):
            self._failed = _name(host, port)
        return reply, replies

    async def _ask_receiver(self, redirection: AskError, command: Command) -> tuple[Any, Replies]:
        """Ask the node to which a slot is just being moved, and which has these keys already."""
        replies = await self._connection_to(redirection.host, redirection.port).open()
        _, reply = [await each for each in (replies.to(("ASKING",)), replies.to(command))]
        return reply, replies

    def _connection_to(self, host: str, port: str | int) -> PipelinedConnection:
        self._lifetime.require()
        name = _name(host, port)
        if name not in self._nodes:
            pool = _Apart({**self._client.get_connection_kwargs(), "host": host, "port": port})
            self._nodes[name] = PipelinedConnection(pool, self._timeout)
        return self._nodes[name]


class _Apart:
    """Makes connections that are no part of the client's: it ends its own whenever it looks for the nodes anew."""

    def __init__(self, options: dict[str, Any]) -> None:
        unwanted = ("max_connections", "connection_class", "response_callbacks")
        self._class: type[Connection] = options["connection_class"]
        self._options = {name: value for name, value in options.items() if name not in unwanted}

    async def get_connection(self) -> AbstractConnection:
        connection = self._class(**self._options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def release(self, connection: AbstractConnection, /) -> None:
        """It is closed, and nobody is to have it again."""


def _name(host: str, port: str | int) -> str:
    """What the client calls a node."""
    return f"{host}:{port}"


def first_key(command: Command) -> str:
    """Of a script, or of a command whose key follows its name."""
    return str(command[3] if command[0] in ("EVALSHA", "EVAL") else command[1])


def connection_to(client: RedisClient, timeout: float) -> PipelinedConnection | ClusterConnection:
    """The one that fits the client."""
    if isinstance(client, Cluster):
        return ClusterConnection(client, timeout)
    return PipelinedConnection(client.connection_pool, timeout)
