"""Three kinds of controllers (BENCH_CONTROLLER), and as many routes as BENCH_ROUTES says."""

from __future__ import annotations

import os
from typing import Any

from tally import ran

from bench_app.jobs.noop import Noop
from core.queue.queue_manager import dispatch
from core.router import Router


async def bare(payload: dict[str, Any]) -> None:
    ran(payload["number"])


async def forward(payload: dict[str, Any]) -> None:
    await dispatch(Noop(number=payload["number"]))


async def durable(payload: dict[str, Any]) -> None:
    await dispatch(Noop(number=payload["number"]))
    ran(payload["number"])


controller = {"bare": bare, "forward": forward, "durable": durable}[os.environ.get("BENCH_CONTROLLER", "bare")]
router = Router()
router.on("bench/{device}/telemetry", controller, qos=1)
for number in range(1, int(os.environ.get("BENCH_ROUTES", "1"))):
    router.on(f"bench/{{device}}/telemetry/{number}", controller, qos=1)
