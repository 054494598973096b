"""Looks after the devices themselves."""

from __future__ import annotations

from app.controllers.sensor_controller import TOO_HOT
from app.jobs.check_firmware import CheckFirmware
from app.jobs.raise_alert import RaiseAlert
from core.controller import Controller
from core.queue.queue_manager import dispatch
from core.routing.client import Client
from core.routing.context import Context


class DeviceController(Controller):
    @staticmethod
    async def status(site: str, sensor: str, payload: str, context: Context) -> None:
        """`online` comes from the device; `offline` from the broker, as the device's last will."""
        # What is retained is old news, repeated at each of our connections; it has raised its alert already.
        if payload == "offline" and not context.retain:
            await dispatch(RaiseAlert(site=site, sensor=sensor, text="does not answer any more"))

    @staticmethod
    async def settings(client: Client) -> None:
        """Answers on the response topic that the device named (MQTT 5)."""
        await client.reply({"interval_seconds": 1.0, "alert_above": TOO_HOT})

    @staticmethod
    async def firmware(site: str, sensor: str, payload: str) -> None:
        await dispatch(CheckFirmware(site=site, sensor=sensor, firmware=payload))
