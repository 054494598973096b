"""A client under test, with what it received and what it told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from core.clock import Backoff
from core.mqtt.client import MqttClient
from core.mqtt.message import IncomingMessage, Subscription
from core.mqtt.options import MqttOptions
from core.observability.events import Event, Events

E = TypeVar("E", bound=Event)
PATIENCE = 20.0  # seconds after which a test that waits for something is told that it never came


class Told:
    """The events of a client, to be waited for by class."""

    def __init__(self) -> None:
        self.bus = Events()
        self._queues: dict[type[Event], asyncio.Queue[Event]] = {}
        self.bus.subscribe(Event, lambda event: self._queue(type(event)).put_nowait(event))

    async def next(self, kind: type[E]) -> E:
        event = await asyncio.wait_for(self._queue(kind).get(), PATIENCE)
        assert isinstance(event, kind)
        return event

    def count(self, kind: type[Event]) -> int:
        return self._queue(kind).qsize()

    def _queue(self, kind: type[Event]) -> asyncio.Queue[Event]:
        return self._queues.setdefault(kind, asyncio.Queue())


class Handler:
    """Handles a message when the test says so; at once, with `hold=False`."""

    def __init__(self, *, hold: bool = True) -> None:
        self.hold = hold
        self.began: list[bytes] = []
        self.ended: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.messages: list[IncomingMessage] = []
        self.at_once = 0
        self.most_at_once = 0
        self._changed = asyncio.Condition()
        self._verdicts: dict[bytes, asyncio.Future[None]] = {}

    async def __call__(self, message: IncomingMessage) -> None:
        self.messages.append(message)
        self.began.append(message.payload)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self._tell()
        try:
            if self.hold:
                await asyncio.shield(self._verdict(message.payload))
            self.ended.append(message.payload)
        except asyncio.CancelledError:
            self.cancelled.append(message.payload)
            raise
        finally:
            self.at_once -= 1
            await self._tell()

    def release(self, *payloads: bytes) -> None:
        for payload in payloads:
            if not self._verdict(payload).done():
                self._verdict(payload).set_result(None)

    def fail(self, payload: bytes, error: Exception) -> None:
        self._verdict(payload).set_exception(error)
        # Delivered again, it is to be judged anew.
        self._verdict(payload).add_done_callback(lambda _: self._verdicts.pop(payload, None))

    def release_all(self) -> None:
        self.hold = False
        self.release(*list(self._verdicts))

    async def has_begun(self, *payloads: bytes) -> None:
        await self._until(lambda: set(payloads) <= set(self.began))

    async def has_begun_count(self, count: int) -> None:
        await self._until(lambda: len(self.began) >= count)

    async def has_ended(self, *payloads: bytes) -> None:
        await self._until(lambda: set(payloads) <= set(self.ended))

    def _verdict(self, payload: bytes) -> asyncio.Future[None]:
        return self._verdicts.setdefault(payload, asyncio.get_running_loop().create_future())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(condition), PATIENCE)


class Running:
    def __init__(self, client: MqttClient, handler: Handler, told: Told, run: asyncio.Task[None]) -> None:
        self.client, self.handler, self.told, self.task = client, handler, told, run

    async def kill(self) -> None:
        """What SIGKILL does: no PUBACK, no DISCONNECT."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def running(
    options: MqttOptions,
    *topic_filters: str,
    client_id: str,
    handler: Handler | None = None,
    handle: Callable[[IncomingMessage], Coroutine[Any, Any, None]] | None = None,
    subscriptions: Sequence[Subscription] | None = None,
    wait: bool = True,
) -> AsyncIterator[Running]:
    """A client that runs, connected unless `wait=False`, and is stopped in the end."""
    told, handler = Told(), handler or Handler()
    wanted = subscriptions or [Subscription(each) for each in topic_filters]
    client = MqttClient(
        options,
        client_id=client_id,
        subscriptions=wanted,
        handle=handle or handler,
        events=told.bus,
        backoff=Backoff(0.02, 0.1),
    )
    task = asyncio.create_task(client.run())
    try:
        if wait:
            await client.connected(PATIENCE)
        yield Running(client, handler, told, task)
    finally:
        await client.stop(0)
        await asyncio.gather(task, return_exceptions=True)
