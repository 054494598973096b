"""What the devices of the fleet say about themselves, and ask for.

Every `router` found in app/routers is loaded, so a new file here is a new set of routes.
"""

from __future__ import annotations

from app.controllers.device_controller import DeviceController
from app.middleware.log_messages import LogMessages
from core.router import Router

router = Router()

with router.group(prefix="fleet/{site}/{sensor}", middleware=[LogMessages]) as devices:
    devices.on("status", DeviceController.status, qos=1)
    devices.on("settings/get", DeviceController.settings, qos=1)
    devices.on("firmware", DeviceController.firmware, qos=1)
