"""A real MQTT broker for `--dev` and for tests: iotcore (rumqttd inside) as a child process, on loopback.

It speaks MQTT 5 and 3.1.1 on separate ports, as rumqttd has it; what is published on one is delivered on
the other. Run as a program (`python -m core.mqtt.embedded_broker CONFIG`), this file is that child.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from core.errors import BrokerUnavailableError

_PROJECT_ROOT = Path(__file__).resolve().parents[2]
_DESCRIPTORS = 256
"""Among so many are a new process's sockets."""

# Memory is kept per topic filter: up to max_segment_size x max_segment_count bytes of past messages.
_CONFIG = """\
id = 0

[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10
"""

_LISTENER = """
[{section}.1]
name = "{section}"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[{section}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20971520
max_inflight_count = 100
dynamic_filters = true
"""


class EmbeddedBroker:
    """Start it, use `host` and `port` (MQTT 5) or `port_311` (MQTT 3.1.1), stop it. Also a context manager.

    A port that is given is tried first; where it is taken, or none is given, a free one is used. Started
    again, it comes back on the ports that it had, without anything it knew: it keeps nothing on disk.
    """

    host = "127.0.0.1"

    def __init__(self, port: int | None = None, port_311: int | None = None) -> None:
        self.port = port or 0
        self.port_311 = port_311 or 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def start(self, timeout: float = 10.0) -> tuple[str, int]:
        """Return host and MQTT 5 port once the child accepts connections on both ports (some 0.3 s).

        Raises BrokerUnavailableError where that takes more than `timeout` seconds or the child ends.
        """
        if not self.is_running:
            self._choose_ports()
            with tempfile.TemporaryDirectory(prefix="routemq-broker-") as folder:
                config = self._write_config(Path(folder))
                self._child = self._spawn(config)
                self._await_listeners(_mark_of(config), time.monotonic() + timeout)
        return self.host, self.port

    def stop(self, timeout: float = 5.0) -> None:
        """End the child, which releases its ports. Safe to call twice."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin:
            child.stdin.close()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _choose_ports(self) -> None:
        self.port = _free_port(self.host, self.port)
        self.port_311 = _free_port(self.host, self.port_311, other_than=self.port)

    def _write_config(self, folder: Path) -> Path:
        path = folder / "broker.toml"
        v5 = _LISTENER.format(section="v5", host=self.host, port=self.port)
        v4 = _LISTENER.format(section="v4", host=self.host, port=self.port_311)
        path.write_text(_CONFIG + v5 + v4)
        return path

    def _spawn(self, config: Path) -> subprocess.Popen[bytes]:
        # The pipe is the child's lifeline: it closes with this process, however that ends.
        return subprocess.Popen(  # noqa: S603 - our own module, our own file
            [sys.executable, "-m", __name__, str(config)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_PROJECT_ROOT)},
        )

    def _await_listeners(self, mark: Path, deadline: float) -> None:
        # That somebody accepts connections would not tell: another program may have taken the port meanwhile.
        while not (mark.exists() and self.is_running):
            if not self.is_running or time.monotonic() > deadline:
                self.stop()
                raise BrokerUnavailableError(
                    f"The embedded MQTT broker did not come up on {self.host}, ports {self.port} and "
                    f"{self.port_311}. See its output above, or set MQTT_BROKER and MQTT_PORT."
                )
            time.sleep(0.02)


def _free_port(host: str, preferred: int, other_than: int = 0) -> int:
    for port in (preferred, 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            if found != other_than:
                return found
    raise BrokerUnavailableError(f"No free port for the embedded MQTT broker on {host}.")


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2) as probe:
            return bool(probe.getsockname() != (host, port))  # a free port may happen to be connected with itself
    except OSError:
        return False


def _mark_of(config: Path) -> Path:
    """The file with which the child says that it listens."""
    return config.with_suffix(".listening")


def _tell_listening(config: Path, listeners: Sequence[str]) -> None:
    """Leave the mark once these addresses are ours; end the process where one is somebody else's."""
    for listener in listeners:
        host, _, port = listener.rpartition(":")
        while not _accepts(host, int(port)):
            time.sleep(0.02)
        if not _is_ours(host, int(port)):
            os._exit(1)
    with suppress(OSError):  # whoever started us has given up
        _mark_of(config).touch()


def _is_ours(host: str, port: int) -> bool:
    """Whether this process has a socket at that address: its listener, or a connection that came to it."""
    for number in range(3, _DESCRIPTORS):
        try:
            with socket.socket(fileno=os.dup(number)) as found:
                if found.getsockname() == (host, port):
                    return True
        except OSError:  # no descriptor, or no socket
            continue
    return False


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(config: Path) -> None:
    """Be the broker until the parent goes away or SIGTERM comes."""
    from iotcore import IotCoreBroker

    # Ctrl-C reaches the whole terminal group; it is the parent that decides when the broker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # rumqttd wraps every packet in an error span, so that its records all look like errors.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    threading.Thread(target=_exit_with_parent, name="lifeline", daemon=True).start()
    broker = IotCoreBroker(config_path=str(config))
    threading.Thread(target=_tell_listening, args=(config, broker.listeners()), name="listening", daemon=True).start()
    broker.run_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
