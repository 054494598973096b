"""The fleet that `python main.py --dev` simulates: a few sensors, each with a connection of its own.

They know what real ones would: the broker and the topics. Delete this file when you have devices.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime

from core.dev.device import Device
from core.dev.fleet import Fleet

SENSORS = [
    ("harbour", "pump-7"),
    ("harbour", "crane-2"),
    ("mill", "saw-1"),
    ("mill", "dryer-4"),
    ("quarry", "crusher-3"),
    ("quarry", "belt-5"),
]


async def simulate(fleet: Fleet) -> None:
    """Run all sensors until cancelled."""
    async with asyncio.TaskGroup() as group:
        for number, (site, name) in enumerate(SENSORS):
            group.create_task(Sensor(fleet, site, name, number).live(), name=f"sensor-{name}")


@dataclass
class Sensor:
    fleet: Fleet
    site: str
    name: str
    number: int
    measured: int = 0

    async def live(self) -> None:
        """One life after the other: connect, measure for a while, then lose power or be shut down."""
        while True:
            async with self.fleet.device(self.name, will=(self._topic("status"), "offline")) as device:
                await self._work(device)
                if self.number % 2:
                    device.vanish()  # the broker tells of it, by the last will
                else:
                    await device.publish(self._topic("status"), "resting", retain=True)
            await asyncio.sleep(random.uniform(3, 6))

    async def _work(self, device: Device) -> None:
        await device.publish(self._topic("status"), "online", retain=True)
        await device.publish(self._topic("firmware"), "1.4" if self.name == "belt-5" else "2.1")
        settings = json.loads(await device.request(self._topic("settings/get")))
        for _ in range(random.randint(25, 60)):
            await self._measure(device)
            await asyncio.sleep(settings["interval_seconds"] * random.uniform(0.8, 1.2))

    async def _measure(self, device: Device) -> None:
        reading = {"taken_at": datetime.now(UTC).isoformat(), "temperature": self._temperature()}
        await device.publish(self._topic("telemetry"), reading)

    def _temperature(self) -> float:
        """Up and down like a machine under load; at the top, now and then beyond what is allowed."""
        self.measured += 1
        return round(63 + 17 * math.sin(self.measured / 4 + self.number) + random.gauss(0, 1.5), 1)

    def _topic(self, what: str) -> str:
        return f"fleet/{self.site}/{self.name}/{what}"
