"""Takes in readings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.jobs.raise_alert import RaiseAlert
from app.jobs.store_reading import StoreReading
from core.controller import Controller
from core.queue.queue_manager import dispatch

TOO_HOT = 80.0
"""°C."""


@dataclass(frozen=True)
class Telemetry:
    """The payload, as JSON. One that does not fit never reaches the controller: it is kept in failed_jobs."""

    taken_at: datetime
    temperature: float  # °C


class SensorController(Controller):
    @staticmethod
    async def telemetry(site: str, sensor: str, payload: Telemetry) -> None:
        """Returns as soon as the jobs are stored. Only then the sensor gets its PUBACK."""
        await dispatch(
            StoreReading(site=site, sensor=sensor, taken_at=payload.taken_at, temperature=payload.temperature)
        )
        if payload.temperature > TOO_HOT:
            await dispatch(RaiseAlert(site=site, sensor=sensor, text=f"{payload.temperature:.1f} °C"))
