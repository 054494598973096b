"""The broker that RouteMQ itself brings along, with the verbs of the other servers."""

from __future__ import annotations

import os
import signal
from types import TracebackType
from typing import Self

from core.mqtt.embedded_broker import EmbeddedBroker
from tests.servers.process import READY_WITHIN, free_port


class IotcoreProcess:
    """It keeps nothing on disk: `restart()` forgets sessions and retained messages."""

    def __init__(self) -> None:
        self._broker = EmbeddedBroker(free_port(), free_port())
        self.host = self._broker.host

    @property
    def port(self) -> int:
        return self._broker.port

    @property
    def port_311(self) -> int:
        return self._broker.port_311

    @property
    def is_running(self) -> bool:
        return self._broker.is_running

    def start(self) -> Self:
        self._broker.start(timeout=READY_WITHIN)
        return self

    def stop(self) -> None:
        if self.is_running:
            self.thaw()
        self._broker.stop()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._broker.stop()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._broker.pid, "the broker is not running"
        os.kill(self._broker.pid, number)
