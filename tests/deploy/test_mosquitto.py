"""A real mosquitto with the shipped `deploy/mosquitto.conf` keeps what waits for a router that is away."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from core.settings import load_settings
from tests.conftest import needs_mosquitto
from tests.servers.mosquitto import MosquittoProcess

CONFIG = Path(__file__).parents[2] / "deploy" / "mosquitto.conf"
WAITING = 1200  # more than the 1,000 at which mosquitto by itself cuts a client's queue off


class ShippedMosquitto(MosquittoProcess):
    """As in its container, except for the port, the directory and the operating system's user."""

    def prepare(self) -> None:
        shipped = CONFIG.read_text().replace("listener 1883", f"listener {self.port} {self.host}")
        own = shipped.replace("/mosquitto/data/", f"{self.directory}/")
        (self.directory / "mosquitto.conf").write_text(f"{own}\nuser {getpass.getuser()}\n")


@pytest.fixture
def mosquitto() -> Iterator[ShippedMosquitto]:
    with ShippedMosquitto() as server:
        yield server


@needs_mosquitto
async def test_it_keeps_every_message_for_a_router_that_is_away(mosquitto: ShippedMosquitto) -> None:
    async with router(mosquitto) as client:
        await client.subscribe("telemetry/#", qos=1)
    async with aiomqtt.Client(mosquitto.host, mosquitto.port) as device:
        device.pending_calls_threshold = WAITING
        await asyncio.gather(*(device.publish("telemetry/1", str(n), qos=1) for n in range(WAITING)))

    mosquitto.restart()

    async with router(mosquitto) as client:
        received = [int(str((await anext(client.messages)).payload, "ascii")) for _ in range(WAITING)]
    assert received == list(range(WAITING))


def router(server: ShippedMosquitto) -> aiomqtt.Client:
    return aiomqtt.Client(
        server.host,
        server.port,
        identifier="router",
        protocol=aiomqtt.ProtocolVersion.V311,
        clean_session=False,
    )


def test_it_fits_the_settings_of_the_router() -> None:
    lines = [line.split(maxsplit=1) for line in CONFIG.read_text().splitlines() if line and line[0] != "#"]
    directives, settings = dict(lines), load_settings(env_file=None).mqtt

    assert int(directives["max_inflight_messages"]) == settings.max_in_flight
    assert directives["listener"] == "1883"
    assert int(directives["persistent_client_expiration"].removesuffix("d")) * 86400 >= settings.session_expiry
