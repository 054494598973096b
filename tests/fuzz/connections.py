"""A broker that sends whatever comes to it, to a router's client on the fast path.

The client goes on or hangs up, and takes up the next connection. Each message that it could read is handled or
recorded, and acknowledged in its turn; those that were not are delivered again, and are acknowledged in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

from core.clock import Backoff
from core.mqtt.client import MqttClient
from core.mqtt.message import IncomingMessage, Subscription
from core.mqtt.options import MqttOptions
from core.observability.events import BrokerLost, Events
from core.tasks import first_of
from tests.fuzz import plain_mqtt
from tests.fuzz.frames import Frames
from tests.fuzz.messages import Handling
from tests.scripted_broker import ScriptedBroker, Session

_LAST = 65_535
_OTHER_FLOWS = ("packet type 5", "packet type 6", "packet type 7", "packet type 13")
"""What paho answers to a QoS 2 that we never ask for, and to a PINGREQ, which no broker sends."""


class Router:
    """A client whose messages go the way that a router's go."""

    def __init__(self, broker: ScriptedBroker) -> None:
        self._handling = Handling()
        self._begun = self._ended = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.losses: asyncio.Queue[str] = asyncio.Queue()
        """Why each connection ended."""
        events = Events()
        events.subscribe(BrokerLost, lambda lost: self.losses.put_nowait(lost.reason))
        self.client = MqttClient(
            MqttOptions(host=broker.host, port=broker.port),
            client_id="router",
            subscriptions=[Subscription("#")],
            handle=self._handle,
            events=events,
            backoff=Backoff(0.0001, 0.0002),
        )

    async def _handle(self, message: IncomingMessage) -> None:
        self._begun += 1
        self._at_rest.clear()
        await self._handling.handler.handle(message)
        self._ended += 1
        if self._ended == self._begun:
            self._at_rest.set()

    async def is_done(self) -> None:
        """Wait until what has begun has ended; each end was told, and each failure is on record."""
        await self._at_rest.wait()
        told = [name for name in self._handling.told if name in ("MessageHandled", "MessageFailed")]
        assert len(told) == self._begun
        assert len(await self._handling.failures.rows()) == told.count("MessageFailed")


class Stage:
    """The broker's side, from one connection to the next."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._frames = Frames(random)
        self._broker = ScriptedBroker()
        self._router = Router(self._broker)
        self._number = 0
        self._owed: list[bytes] = []
        """Payloads of messages that are not acknowledged."""

    async def begin(self) -> None:
        await self._broker.start()
        self._running = asyncio.create_task(self._router.client.run())

    def stream(self) -> bytes:
        """What is owed, something strange, and something behind it, by which to see that all was read."""
        self._owed += [self._payload() for _ in range(self._random.randrange(3))]
        return self._of_owed() + self._frames.stream(is_v5=True) + self._publish(self._payload(), _LAST)

    def _of_owed(self) -> bytes:
        return b"".join(self._publish(payload, mid) for mid, payload in enumerate(self._owed, start=1))

    def _payload(self) -> bytes:
        self._number += 1
        return b"%d" % self._number

    def _publish(self, payload: bytes, mid: int) -> bytes:
        return plain_mqtt.write_publish(IncomingMessage("a/b/status", payload, 1, mid=mid), is_v5=True)

    async def send(self, stream: bytes) -> None:
        """On the next connection. It is cut in the end, at the latest when all was read."""
        packets, is_refused = plain_mqtt.read_stream(stream, is_v5=True)
        to_acknowledge = [each for each in packets if isinstance(each, IncomingMessage) and each.qos]
        session = await self._broker.next_session()
        await session.subscribes.get()
        for each in to_acknowledge:
            session.conduct.was_sent(each.mid, each.payload)
        session.writer.write(stream)
        is_whole = bool(to_acknowledge) and to_acknowledge[-1].mid == _LAST
        if is_refused:
            await session.ended.wait()
        elif is_whole:
            await first_of(session.ended.wait(), _pubacks(session, len(to_acknowledge)))
        session.cut()
        await session.ended.wait()
        reason = await self._router.losses.get()
        if is_refused and all(isinstance(each, IncomingMessage) for each in packets):  # so that nothing else ended it
            assert reason.startswith("the broker sent "), reason
        del self._owed[: session.puback_count]
        await self._router.is_done()
        self._require_good_conduct()

    def _require_good_conduct(self) -> None:
        self._broker.violations[:] = [each for each in self._broker.violations if not each.startswith(_OTHER_FLOWS)]
        self._broker.require_good_conduct()

    async def settle(self) -> None:
        """Deliver what is owed still."""
        await self.send(self._of_owed() + self._publish(self._payload(), _LAST))
        assert not self._owed

    async def end(self) -> None:
        await self._router.client.stop(1)
        await self._running
        await self._broker.stop()


async def _pubacks(session: Session, count: int) -> None:
    for _ in range(count):
        await session.pubacks.get()


def fuzz(random: Random, count: int) -> Iterator[bytes]:
    """Try that many streams, each on a connection of its own; each is told before it is tried."""
    stage = Stage(random)
    with asyncio.Runner() as runner:
        runner.run(stage.begin())
        try:
            for _ in range(count):
                stream = stage.stream()
                yield stream
                runner.run(stage.send(stream))
            runner.run(stage.settle())
        finally:
            runner.run(stage.end())
