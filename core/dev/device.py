"""A simulated device: an MQTT client of its own, with all that real ones have."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec

from core.mqtt.client import MqttClient
from core.mqtt.message import IncomingMessage, MessageProperties


class Device:
    """One connection to the broker; made by `Fleet.device`."""

    def __init__(self, client: MqttClient, inbox: str) -> None:
        self._client = client
        self._inbox = inbox
        self._answers: dict[bytes, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count(1)
        self.has_vanished = False

    async def publish(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        """Publish at QoS 1: bytes and text as they are, anything else as JSON. Returns at the broker's PUBACK."""
        await self._client.publish(topic, _encoded(payload), qos=1, retain=retain)

    async def request(self, topic: str, payload: Any = b"", *, timeout: float = 3.0) -> bytes:
        """Publish with a response topic (MQTT 5, section 4.10), and return the payload of the answer.

        Raises TimeoutError after so many seconds without one.
        """
        key = str(next(self._numbers)).encode()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[key] = answer
        asked = MessageProperties(response_topic=self._inbox, correlation_data=key)
        try:
            await self._client.publish(topic, _encoded(payload), qos=1, properties=asked)
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            del self._answers[key]

    def vanish(self) -> None:
        """End as if the power had gone: without a DISCONNECT, so that the broker publishes the last will."""
        self.has_vanished = True

    async def receive(self, message: IncomingMessage) -> None:
        """Take what comes to the device's inbox."""
        answer = self._answers.get(message.properties.correlation_data or b"")
        if answer is not None and not answer.done():
            answer.set_result(message.payload)


def _encoded(payload: Any) -> bytes | str:
    return payload if isinstance(payload, bytes | str) else msgspec.json.encode(payload)
