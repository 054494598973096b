"""Publishes from a process that holds no connection to the broker, such as a worker."""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt

from core.errors import BrokerUnavailableError
from core.mqtt.connection import outgoing_properties
from core.mqtt.message import MessageProperties
from core.mqtt.options import MqttOptions


class OneShotPublisher:
    """Connects for each message, under a name that the broker gives: rare work needs no standing connection."""

    def __init__(self, options: MqttOptions) -> None:
        self._options = options

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties | None = None,
    ) -> None:
        """Return once the broker has the message (QoS 0: once it is written). Raises BrokerUnavailableError."""
        outgoing = outgoing_properties(properties) if properties and self._options.protocol == "5" else None
        try:
            async with await self._client() as client:
                await client.publish(topic, payload, qos, retain, outgoing)
        except aiomqtt.MqttError as error:
            raise BrokerUnavailableError(
                f"Publishing to {topic} through the MQTT broker at {self._options.address} failed: {error}"
            ) from error

    async def _client(self) -> aiomqtt.Client:
        options = self._options
        tls = options.tls
        return aiomqtt.Client(
            options.host,
            options.port,
            username=options.username,
            password=options.password,
            transport=options.transport,
            websocket_path=options.websocket_path if options.transport == "websockets" else None,
            tls_context=await asyncio.to_thread(tls.context) if tls else None,
            timeout=options.answer_timeout,
            **_throwaway_session(options),
        )


def _throwaway_session(options: MqttOptions) -> dict[str, Any]:
    if options.protocol == "3.1.1":
        return {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": True}
    return {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": True}
