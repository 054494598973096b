"""What the sensors measure."""

from __future__ import annotations

from app.controllers.sensor_controller import SensorController
from app.middleware.rate_limit import RateLimit
from core.router import Router

router = Router()

# A sensor gone wild is held to 20 readings a second; each topic, and so each sensor, is counted for itself.
# Readings are the bulk of the messages: two processes share them, while the main one has its hands free.
router.on(
    "fleet/{site}/{sensor}/telemetry",
    SensorController.telemetry,
    qos=1,
    shared=True,
    worker_count=2,
    middleware=[RateLimit(20, per=1, by=lambda context: context.topic)],
)
