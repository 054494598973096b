"""A router that dies between two steps of a message's way from CONNECT to PUBACK, and what its broker keeps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from core import application
from core.cli import event_loop, main, router
from core.roles import router_role
from tests.chaos import mutations
from tests.chaos.steps import Steps, end_after_puback

_PRELOADED = (application, router, router_role)
"""By the server of forks, so that no doomed process has to."""


def route(steps: Steps, env: Mapping[str, str]) -> None:
    """Be a router until a PUBACK was sent: what a doomed process does."""
    os.environ.update(env)
    if mutations.VARIABLE in env:
        mutations.apply(env[mutations.VARIABLE])
    event_loop._loop_factory = lambda: asyncio.new_event_loop
    end_after_puback(steps)
    steps.arm()
    main.main([])


class Broker:
    """The router's session, taken over while no router runs."""

    def __init__(self, host: str, port: int, name: str) -> None:
        """`name` is the router's client id, and what its topics begin with."""
        self._place = host, port
        self._client_id = self._topics = name

    @property
    def settings(self) -> dict[str, str]:
        """What the router needs to find its session."""
        host, port = self._place
        place = {"MQTT_BROKER": host, "MQTT_PORT": str(port)}
        return {"SAMPLE_TOPICS": self._topics, "MQTT_CLIENT_ID": self._client_id, **place}

    async def subscribe(self) -> None:
        """Make the session, so that messages published before the first router are kept for it."""
        async with self._session() as client:
            await client.subscribe(f"{self._topics}/numbers", qos=1)

    async def publish(self, number: int) -> None:
        """Returns when the broker has it."""
        async with aiomqtt.Client(*self._place, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.publish(f"{self._topics}/numbers", number, qos=1)

    async def kept(self) -> list[int]:
        """The messages that the broker would deliver (again): none of them was acknowledged. They are now."""
        await self.publish(_END)
        kept: list[int] = []
        async with self._session() as client:
            async for message in client.messages:
                number = int(bytes(message.payload))
                if number == _END:
                    break
                kept.append(number)
        return kept

    def _session(self) -> aiomqtt.Client:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        return aiomqtt.Client(
            *self._place,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
        )


_END = -1
