from __future__ import annotations

from typing import Any

from routemq import Router
from tally import ran


async def telemetry(payload: dict[str, Any], **_: Any) -> None:
    ran(payload["number"])


router = Router()
router.on("bench/{device}/telemetry", telemetry, qos=1)
