"""The simulated fleet speaks of topics that the app's routes know, in the words that its controllers take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import simulation
from tests.unit.app.conftest import Example


class Vanished(Exception):
    pass


class DirectDevice:
    """Hands what it publishes to the app, without a broker in between."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.topics: list[str] = []

    async def publish(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        self.topics.append(topic)
        await self.example.receive(topic, payload.encode() if isinstance(payload, str) else payload)

    async def request(self, topic: str) -> str:
        await self.example.receive(topic, response_topic="inbox")
        return '{"interval_seconds": 0}'

    def vanish(self) -> None:
        raise Vanished


class DirectFleet:
    def __init__(self, device: DirectDevice) -> None:
        self._device = device
        self.wills: list[tuple[str, str]] = []

    @asynccontextmanager
    async def device(self, name: str, *, will: tuple[str, str]) -> AsyncIterator[DirectDevice]:
        self.wills.append(will)
        yield self._device


async def test_a_sensors_life_is_all_routed(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.simulation.random.randint", lambda low, high: 3)
    device = DirectDevice(example)
    fleet: Any = DirectFleet(device)
    with pytest.raises(Vanished):
        await simulation.Sensor(fleet, "mill", "saw-1", number=1).live()
    telemetry = ["fleet/mill/saw-1/telemetry"] * 3
    assert device.topics == ["fleet/mill/saw-1/status", "fleet/mill/saw-1/firmware", *telemetry]
    assert fleet.wills == [("fleet/mill/saw-1/status", "offline")]
    assert await example.failures() == []


async def test_all_sensors_live_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[str] = set()
    all_alive = asyncio.Event()

    async def live(sensor: simulation.Sensor) -> None:
        alive.add(sensor.name)
        if len(alive) == len(simulation.SENSORS):
            all_alive.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(simulation.Sensor, "live", live)
    fleet: Any = None
    running = asyncio.create_task(simulation.simulate(fleet))
    await all_alive.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
