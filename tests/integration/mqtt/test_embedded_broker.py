from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.errors import BrokerUnavailableError
from core.mqtt import embedded_broker
from core.mqtt.embedded_broker import EmbeddedBroker
from core.mqtt.options import MqttOptions
from tests.mqtt_harness import Handler, running
from tests.servers.process import free_port

ROOT = Path(__file__).resolve().parents[3]
START_AND_SAY_WHO = """
from core.mqtt.embedded_broker import EmbeddedBroker
broker = EmbeddedBroker()
broker.start(60)
print(broker.pid, flush=True)
input()
"""


def listening(pid: int) -> set[tuple[str, int]]:
    sockets = psutil.Process(pid).net_connections(kind="inet")
    return {tuple(each.laddr) for each in sockets if each.status == psutil.CONN_LISTEN}


def test_it_listens_on_loopback_and_nowhere_else() -> None:
    with EmbeddedBroker() as broker:
        assert broker.pid
        assert listening(broker.pid) == {("127.0.0.1", broker.port), ("127.0.0.1", broker.port_311)}


def test_a_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with EmbeddedBroker(port, port) as broker:
            assert port not in (broker.port, broker.port_311)


def test_it_comes_back_on_the_port_that_it_was_given() -> None:
    broker = EmbeddedBroker(free_port(), free_port())
    first = broker.start(60)
    broker.stop()
    broker.stop()
    assert not broker.is_running
    assert broker.start(60) == first
    assert broker.start(60) == first
    broker.stop()


async def test_what_is_published_in_one_version_is_delivered_in_the_other_up_to_20_mib() -> None:
    payload = bytes(19 * 1024 * 1024)
    with EmbeddedBroker() as broker:
        v5 = MqttOptions(host=broker.host, port=broker.port)
        v311 = MqttOptions(host=broker.host, port=broker.port_311, protocol="3.1.1")
        async with running(v5, "a", client_id="five", handler=Handler(hold=False)) as it:
            async with running(v311, client_id="four") as other:
                await other.client.publish("a", payload, qos=1)
            await it.handler.has_begun_count(1)
            assert it.handler.began == [payload]


def test_ctrl_c_in_the_terminal_does_not_end_it() -> None:
    with EmbeddedBroker() as broker:
        assert broker.pid
        child = psutil.Process(broker.pid)
        child.send_signal(signal.SIGINT)
        with socket.create_connection((broker.host, broker.port)):
            assert broker.is_running
        with pytest.raises(psutil.TimeoutExpired):
            child.wait(0.1)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent_however_that_ends(ending: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_SAY_WHO],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        try:
            assert parent.stdout
            child = psutil.Process(int(parent.stdout.readline()))
            parent.send_signal(ending)
            psutil.wait_procs([child], timeout=20)
        finally:
            parent.kill()
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_broker_that_does_not_come_up_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "_CONFIG", "this is no TOML")
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1.*MQTT_BROKER"):
        EmbeddedBroker().start(60)


def test_somebody_else_who_listens_on_its_ports_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = iter([each.getsockname()[1] for each in (one, other)])
        monkeypatch.setattr(embedded_broker, "_free_port", lambda *_, **__: next(ports))
        with pytest.raises(BrokerUnavailableError):
            EmbeddedBroker().start(60)


def test_the_child_tells_its_own_listener_from_that_of_another_process() -> None:
    with EmbeddedBroker() as broker, socket.create_server(("127.0.0.1", 0)) as ours:
        assert embedded_broker._is_ours(*ours.getsockname())
        assert not embedded_broker._is_ours(broker.host, broker.port)
