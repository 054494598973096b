"""A Redis with replicas, and Sentinels that put one of them in its place should it be gone."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from redis import Redis

from tests.servers.process import READY_WITHIN, ServerProcess, wait_until
from tests.servers.redis import ValkeyProcess

MASTER = "jobs"


class ReplicatedRedis:
    """`nodes[0]` is the master at first."""

    def __init__(self, replicas: int = 1) -> None:
        self._stack = ExitStack()
        at_once = ("--repl-diskless-sync-delay", "0")
        first = ValkeyProcess(None, *at_once)
        follows = ("--replicaof", f"{first.host} {first.port}")
        self.nodes = [first, *(ValkeyProcess(None, *at_once, *follows) for _ in range(replicas))]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        for node in self.nodes:
            self._stack.enter_context(node)
        wait_until(lambda: self._online(self.nodes[0]) == len(self.nodes) - 1, READY_WITHIN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @staticmethod
    def _online(master: ValkeyProcess) -> int:
        with Redis.from_url(master.url) as client:
            return int(client.wait(0, 1))  # of those that follow, none of them must have anything


class SentinelProcess(ValkeyProcess):
    """Takes the master for gone after a second."""

    def __init__(self, master: ServerProcess, quorum: int) -> None:
        super().__init__()
        self._master = master
        self._quorum = quorum
        self._settings = self.directory / "sentinel.conf"

    def prepare(self) -> None:
        lines = [
            f"sentinel monitor {MASTER} {self._master.host} {self._master.port} {self._quorum}",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        own = [f"port {self.port}", f"bind {self.host}", f"dir {self.directory}"]
        self._settings.write_text("\n".join([*own, *lines]))

    def command(self) -> list[str]:
        return [self.program, str(self._settings), "--sentinel"]


class WatchedRedis(ReplicatedRedis):
    """With three Sentinels."""

    def __init__(self, replicas: int = 2) -> None:
        super().__init__(replicas)
        self.sentinels = [SentinelProcess(self.nodes[0], quorum=2) for _ in range(3)]

    def _start(self) -> None:
        super()._start()
        for each in self.sentinels:
            self._stack.enter_context(each)
            _hurry(each)
        wait_until(lambda: all(self._knows_all(each) for each in self.sentinels), READY_WITHIN)

    @property
    def url(self) -> str:
        hosts = ",".join(f"{each.host}:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}"

    @property
    def master(self) -> ValkeyProcess:
        """As the Sentinels have it."""
        with Redis(host=self.sentinels[0].host, port=self.sentinels[0].port) as client:
            _, port = client.sentinel_get_master_addr_by_name(MASTER)
        return next(node for node in self.nodes if node.port == port)

    def _knows_all(self, sentinel: SentinelProcess) -> bool:
        with Redis(host=sentinel.host, port=sentinel.port, decode_responses=True) as client:
            state = client.sentinel_master(MASTER)
        return bool(
            state["num-slaves"] >= len(self.nodes) - 1 and state["num-other-sentinels"] >= len(self.sentinels) - 1
        )


def _hurry(sentinel: SentinelProcess) -> None:
    """Else a master that comes back is told some 10 s later whom to follow; and a Sentinel that a busy machine holds
    up for two seconds does nothing for the next thirty."""
    with Redis(host=sentinel.host, port=sentinel.port) as client:
        client.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 200)
        client.execute_command("SENTINEL", "DEBUG", "TILT-TRIGGER", 30_000, "TILT-PERIOD", 1000)
