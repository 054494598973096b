"""Ways into a broker: WebSockets, TLS, names and passwords."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import trustme

from core.errors import BrokerRefusedError, BrokerUnavailableError, SettingError
from core.mqtt.options import MqttOptions, TlsOptions
from tests.conftest import needs_mosquitto
from tests.mqtt_harness import Handler, running
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.process import free_port

pytestmark = needs_mosquitto

SLOW_WEBSOCKET = 5_000
"""Bytes. mosquitto 2.0 moves 4 KiB of a WebSocket every tenth of a second."""

Start = Callable[[str], MosquittoProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(MosquittoProcess(settings=settings))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Path:
    """ca.pem, server.pem and server.key, client.pem and client.key."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, identity in {"server": "localhost", "client": "router@example.org"}.items():
        certificate = authority.issue_cert(identity)
        certificate.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    return tmp_path


@pytest.fixture
def tls_port(start: Start, files: Path) -> int:
    port = free_port()
    start(
        f"listener {port} 127.0.0.1\ncafile {files}/ca.pem\ncertfile {files}/server.pem\n"
        f"keyfile {files}/server.key\nrequire_certificate true"
    )
    return port


def tls(files: Path, **fields: object) -> TlsOptions:
    own = {"cert_file": files / "client.pem", "key_file": files / "client.key", "ca_file": files / "ca.pem"}
    return TlsOptions(**{**own, **fields})  # type: ignore[arg-type]


async def round_trip(options: MqttOptions, unique: str, size: int = 200_000) -> None:
    """Five payloads of `size` bytes, many records of TLS by default, with small ones between them."""
    handler = Handler(hold=False)
    large = [bytes([number]) * size for number in range(5)]
    async with running(options, f"{unique}/#", client_id=unique, handler=handler) as it:
        sending = [it.client.publish(f"{unique}/a", each, qos=1) for each in (*large, *[b"small"] * 5)]
        await asyncio.gather(*sending)
        await handler.has_begun_count(10)
        await handler.has_ended(*large, b"small")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_websockets(start: Start, unique: str, protocol: str) -> None:
    port = free_port()
    start(f"listener {port} 127.0.0.1\nprotocol websockets")
    options = MqttOptions(host="127.0.0.1", port=port, transport="websockets")
    spoken = options if protocol == "5" else replace(options, protocol="3.1.1")
    await round_trip(spoken, unique, SLOW_WEBSOCKET)


async def test_tls_with_a_client_certificate(
    tls_port: int, files: Path, unique: str, receive: Literal["fast", "stock"]
) -> None:
    await round_trip(MqttOptions(host="localhost", port=tls_port, tls=tls(files), receive=receive), unique)


async def test_tls_over_websockets(start: Start, files: Path, unique: str) -> None:
    port = free_port()
    start(
        f"listener {port} 127.0.0.1\nprotocol websockets\ncafile {files}/ca.pem\n"
        f"certfile {files}/server.pem\nkeyfile {files}/server.key"
    )
    options = MqttOptions(host="localhost", port=port, transport="websockets", tls=tls(files))
    await round_trip(options, unique, SLOW_WEBSOCKET)


async def test_a_client_without_its_certificate_does_not_get_in(tls_port: int, files: Path, unique: str) -> None:
    options = MqttOptions(host="localhost", port=tls_port, tls=TlsOptions(ca_file=files / "ca.pem"))
    async with running(options, client_id=unique, wait=False) as it:
        with pytest.raises(BrokerUnavailableError, match=f"localhost:{tls_port}"):
            await it.client.connected(1)


async def test_a_broker_that_nobody_vouches_for_is_not_talked_to(tls_port: int, files: Path, unique: str) -> None:
    stranger = files / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    options = MqttOptions(host="localhost", port=tls_port, tls=tls(files, ca_file=stranger))
    async with running(options, client_id=unique, wait=False) as it:
        with pytest.raises(BrokerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await it.client.connected(1)


async def test_a_broker_by_another_name_is_talked_to_only_on_demand(tls_port: int, files: Path, unique: str) -> None:
    by_address = MqttOptions(host="127.0.0.1", port=tls_port, tls=tls(files))
    async with running(by_address, client_id=unique, wait=False) as it:
        with pytest.raises(BrokerUnavailableError, match="IP address mismatch"):
            await it.client.connected(1)
    insecure = MqttOptions(host="127.0.0.1", port=tls_port, tls=tls(files, insecure=True))
    await round_trip(insecure, unique)


async def test_tls_files_that_are_gone_end_the_start(tls_port: int, files: Path, unique: str) -> None:
    options = MqttOptions(host="localhost", port=tls_port, tls=tls(files, key_file=files / "nowhere.key"))
    async with running(options, client_id=unique, wait=False) as it:
        with pytest.raises(SettingError, match=r"nowhere\.key"):
            await it.client.connected(20)


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="mosquitto_passwd is not on PATH")
async def test_name_and_password(start: Start, tmp_path: Path, unique: str) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "pump", "right"], check=True)  # noqa: ASYNC221
    server = start(f"password_file {passwords}")
    right = MqttOptions(host=server.host, port=server.port, username="pump", password="right")
    await round_trip(right, unique)
    wrong = MqttOptions(host=server.host, port=server.port, username="pump", password="wrong")
    async with running(wrong, client_id=unique, wait=False) as it:
        with pytest.raises(BrokerRefusedError, match=f"{server.host}:{server.port}.*'pump'.*MQTT_PASSWORD"):
            await it.client.connected(20)


async def test_a_topic_that_the_access_list_forbids(start: Start, tmp_path: Path, unique: str) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite open/#\n")
    server = start(f"acl_file {rules}")
    options = MqttOptions(host=server.host, port=server.port)
    async with running(options, "open/#", client_id=unique) as it:
        assert it.client.is_connected
