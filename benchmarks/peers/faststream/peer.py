"""FastStream's MQTT broker, with its default acknowledgement: after the handler."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import uvloop
from faststream import FastStream
from faststream.mqtt import MQTTBroker
from tally import ran
from zmqtt import QoS

URL = urlsplit(os.environ["BENCH_URL"])
broker = MQTTBroker(f"mqtt://{URL.hostname}:{URL.port}", logger=None)


@broker.subscriber("bench/+/telemetry", qos=QoS.AT_LEAST_ONCE)
async def telemetry(message: dict[str, Any]) -> None:
    ran(message["number"])


def work() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(FastStream(broker, logger=None).run())
