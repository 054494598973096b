"""The fleet that `--dev` simulates, so that there is something to see.

What the devices do is the app's affair: `async def simulate(fleet)` in its `simulation` module, which may be
missing. All that goes between them and the app is real MQTT.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from core.clock import Backoff
from core.dev.device import Device
from core.discovery import import_room
from core.errors import RouteMQError
from core.mqtt.client import MqttClient
from core.mqtt.message import IncomingMessage, Subscription
from core.mqtt.options import MqttOptions, WillOptions
from core.observability.events import Events
from core.tasks import end_tasks

_log = logging.getLogger("routemq.dev")

_CONNECT_SECONDS = 10.0
_LAST_WORDS = 0.5
"""Seconds that a device gets to say goodbye."""


class Fleet:
    """Gives devices their connection to the broker."""

    def __init__(self, options: MqttOptions) -> None:
        self._options = options

    @asynccontextmanager
    async def device(self, name: str, *, will: tuple[str, str] | None = None) -> AsyncIterator[Device]:
        """A connected device; `will` is the topic and text that the broker publishes, retained, if it vanishes.

        Raises BrokerUnavailableError where it cannot connect.
        """
        inbox = f"inbox/{name}"
        options = replace(self._options, will=_will(will), session_expiry=0)

        # Device and client need each other; the client's messages come only once it runs.
        async def receive(message: IncomingMessage) -> None:
            await device.receive(message)

        client = MqttClient(
            options, client_id=name, subscriptions=[Subscription(inbox)], handle=receive, events=Events()
        )
        device = Device(client, inbox)
        running = asyncio.create_task(client.run(), name=f"device-{name}")
        try:
            await client.connected(_CONNECT_SECONDS)
            yield device
            if not device.has_vanished:
                await client.stop(_LAST_WORDS)
        finally:
            await end_tasks(running)


Simulate: TypeAlias = Callable[[Fleet], Awaitable[None]]


def find_simulation(package: str) -> Simulate | None:
    """The app's `simulate`; None where it has none."""
    found = (getattr(module, "simulate", None) for module in import_room(package, "simulation"))
    return next((each for each in found if each is not None), None)


async def run_fleet(simulate: Simulate, fleet: Fleet) -> None:
    """Simulate until cancelled. What goes wrong is logged, and the fleet starts anew: it is only a simulation."""
    backoff = Backoff(0.5, 10.0)
    while True:
        try:
            await simulate(fleet)
        except* (RouteMQError, TimeoutError) as group:
            _log.warning("the simulated fleet starts anew: %s", group.exceptions[0])
        except* Exception:
            _log.exception("app/simulation.py failed; the fleet starts anew")
        await asyncio.sleep(backoff.next())


def _will(will: tuple[str, str] | None) -> WillOptions | None:
    return WillOptions(will[0], will[1].encode(), qos=1, retain=True) if will else None
