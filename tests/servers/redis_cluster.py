"""A Redis Cluster: three nodes that share the slots, each with as many replicas as are wanted."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

import psutil
from redis import Redis
from redis.exceptions import RedisError

from tests.servers.process import READY_WITHIN, free_port, wait_until
from tests.servers.redis import ValkeyProcess

SLOTS = 16384
_MASTERS = 3
_GONE_AFTER, _HARDLY_EVER = 2000, 30_000
"""Milliseconds without a word, after which the others take a node for gone."""


class NodeProcess(ValkeyProcess):
    def __init__(self, gone_after: int, *, append_only: bool = False) -> None:
        self.bus_port = free_port()
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(gone_after))
        at_once = ("--repl-diskless-sync-delay", "0")
        super().__init__(None, *options, "--cluster-port", str(self.bus_port), *at_once, append_only=append_only)

    def ask(self, *command: Any) -> Any:
        with Redis.from_url(self.url, decode_responses=True) as client:
            return client.execute_command(*command)

    @property
    def node_id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    @property
    def is_master(self) -> bool:
        return str(self.ask("ROLE")[0]) == "master"


class RedisCluster:
    """`nodes`: the masters, then their replicas in the same order, over and over."""

    def __init__(self, replicas: int = 0, *, append_only: bool = False) -> None:
        """`replicas` of each master; `append_only` as of a single server."""
        self._stack = ExitStack()
        gone_after = _GONE_AFTER if replicas else _HARDLY_EVER
        self.nodes = [NodeProcess(gone_after, append_only=append_only) for _ in range(_MASTERS * (1 + replicas))]

    @property
    def masters(self) -> list[NodeProcess]:
        """Those of the beginning."""
        return self.nodes[:_MASTERS]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes[:2])

    def start(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        for node in self.nodes:
            self._stack.enter_context(node)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "MEET", self.nodes[0].host, self.nodes[0].port, self.nodes[0].bus_port)
        for number, node in enumerate(self.masters):
            node.ask("CLUSTER", "ADDSLOTSRANGE", *_range_of(number))
        wait_until(lambda: all(_knows(node, len(self.nodes)) for node in self.nodes), READY_WITHIN)
        for number, node in enumerate(self.nodes[_MASTERS:]):
            node.ask("CLUSTER", "REPLICATE", self.masters[number % _MASTERS].node_id)
        wait_until(self._is_complete, READY_WITHIN)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def master_of(self, slot: int) -> NodeProcess:
        """Which node serves a slot, as those say that run."""
        for node in filter(_is_awake, self.nodes):
            with suppress(RedisError):
                for first, last, (_, port, *_), *_ in node.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"no node serves slot {slot}")

    def _is_complete(self) -> bool:
        """Each node knows who serves all slots, and each replica follows."""
        replicas = len(self.nodes) - _MASTERS
        return all(_knows_all(node, replicas) for node in self.nodes) and all(
            node.is_master or node.ask("ROLE")[3] == "connected" for node in self.nodes
        )


def _is_awake(node: NodeProcess) -> bool:
    return node.is_running and psutil.Process(node.pid).status() != psutil.STATUS_STOPPED


def _range_of(number: int) -> tuple[int, int]:
    return number * SLOTS // _MASTERS, (number + 1) * SLOTS // _MASTERS - 1


def _knows(node: NodeProcess, nodes: int) -> bool:
    return f"cluster_known_nodes:{nodes}\r" in node.ask("CLUSTER", "INFO")


def _knows_all(node: NodeProcess, replicas: int) -> bool:
    parts = node.ask("CLUSTER", "SLOTS")
    is_covered = sum(last - first + 1 for first, last, *_ in parts) == SLOTS
    return (
        is_covered
        and sum(len(part) - 3 for part in parts) == replicas
        and "cluster_state:ok" in node.ask("CLUSTER", "INFO")
    )
