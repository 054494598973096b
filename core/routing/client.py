"""What a controller speaks back to the devices with: its `client` argument."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from core.errors import BrokerUnavailableError, MessageError
from core.mqtt.message import MessageProperties


class Publisher(Protocol):
    """The MQTT connection, as far as a controller needs it."""

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties | None = None,
    ) -> None: ...


class Client(msgspec.Struct, frozen=True):
    publisher: Publisher | None
    request: MessageProperties

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties | None = None,
    ) -> None:
        """Publish bytes and text as they are, anything else as JSON.

        Raises BrokerUnavailableError where the broker cannot be reached at the moment.
        """
        if self.publisher is None:
            raise BrokerUnavailableError(
                f"cannot publish to {topic!r}: this process has no connection to the MQTT broker; "
                "publish from a controller that runs in the router (python main.py)"
            )
        await self.publisher.publish(topic, _encoded(payload), qos=qos, retain=retain, properties=properties)

    async def reply(self, payload: Any, *, qos: int = 1) -> None:
        """Publish to the response topic of the message, with its correlation data (MQTT 5, section 4.10).

        Raises MessageError where the message names no response topic.
        """
        if self.request.response_topic is None:
            raise MessageError(
                "cannot reply: the message names no response topic; let the device set it, or use client.publish()"
            )
        correlation = MessageProperties(correlation_data=self.request.correlation_data)
        await self.publish(self.request.response_topic, payload, qos=qos, properties=correlation)


def _encoded(payload: Any) -> bytes | str:
    return payload if isinstance(payload, bytes | str) else msgspec.json.encode(payload)
