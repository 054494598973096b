"""aiomqtt as its guide shows it: PUBACKs go out before the handler runs."""

from __future__ import annotations

import asyncio
import json
import os
from urllib.parse import urlsplit

import uvloop
from aiomqtt import Client, ProtocolVersion
from tally import ran

URL = urlsplit(os.environ["BENCH_URL"])


async def receive() -> None:
    async with Client(str(URL.hostname), URL.port or 1883, protocol=ProtocolVersion.V5) as client:
        await client.subscribe("bench/+/telemetry", qos=1)
        async for message in client.messages:
            ran(json.loads(message.payload)["number"])


def work() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(receive())
