"""gmqtt with its acknowledgement after the handler (`optimistic_acknowledgement=False`)."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any
from urllib.parse import urlsplit

import uvloop
from gmqtt import Client
from tally import ran

URL = urlsplit(os.environ["BENCH_URL"])


async def telemetry(_client: Client, _topic: str, payload: bytes, *_: Any) -> int:
    ran(json.loads(payload)["number"])
    return 0


async def receive() -> None:
    client = Client("bench", optimistic_acknowledgement=False)
    client.on_connect = lambda *_: client.subscribe("bench/+/telemetry", qos=1)
    client.on_message = telemetry
    await client.connect(str(URL.hostname), URL.port or 1883)
    await asyncio.Event().wait()


def work() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(receive())
