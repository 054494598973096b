"""Whatever topic, payload and properties a message has: a controller is called with it, or it ends as a record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec
from pydantic import BaseModel

from core.errors import PermanentError
from core.handle_message import FailedMessages, HandleMessage
from core.mqtt.message import IncomingMessage
from core.observability.events import Event, Events
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.envelope import load_job, read_envelope
from core.queue.registry import JobRegistry
from core.router import Router
from core.routing.handling import MessageHandler
from core.routing.table import RouteTable
from tests.fuzz import plain_mqtt
from tests.fuzz.frames import Frames
from tests.fuzz.mutations import Mutator


@dataclass
class Reading:
    value: float
    at: datetime | None = None
    tags: frozenset[str] = frozenset()


class Header(msgspec.Struct, forbid_unknown_fields=True):
    key: bytes
    kind: Literal["a", "b"] = "a"
    inner: Header | None = None


class Line(TypedDict):
    sku: UUID
    count: Annotated[int, msgspec.Meta(ge=0)]


class Order(BaseModel):
    number: int
    total: Decimal | None = None
    readings: list[Reading] = []


class Moody(BaseException):
    """What no controller should raise."""


class Controllers:
    """One for each kind of payload and parameter; each notes that it was called."""

    def __init__(self) -> None:
        self.calls = 0
        router = Router()
        for number, annotation in enumerate(
            [Any, bytes, str, dict[str, Any], list[int], Reading, list[Reading], Header, Line, Order, int | str | None]
        ):
            router.on(f"kind/{number}/{{rest:rest}}", self._taking(annotation))
        router.on("int/{value:int}/{other}", self._converting(int, UUID))
        router.on("float/{value:float}/{other}", self._converting(float, Literal["a", "b"]))
        router.on("uuid/{value:uuid}/{other}", self._converting(UUID, datetime))
        router.on("text/{value}/{other}", self._converting(bool, Decimal))
        router.on("raises/#", self._raise)
        router.on("by/{device_id}", self._note, deduplicate_by="payload.id", ordered_by="device_id")
        router.on("by/property/+", self._note, deduplicate_by="property.id", ordered_by="key.inner")
        router.on("+/+/status", self._note)
        self.router = router

    def _taking(self, annotation: Any) -> Any:
        async def controller(payload: Any) -> None:
            self.calls += 1

        controller.__annotations__["payload"] = annotation
        return controller

    def _converting(self, one: Any, another: Any) -> Any:
        async def controller(value: Any, other: Any, payload: bytes) -> None:
            self.calls += 1

        controller.__annotations__.update(value=one, other=another)
        return controller

    async def _note(self) -> None:
        self.calls += 1

    async def _raise(self, payload: bytes) -> None:
        raise (ValueError("\ud800"), PermanentError("no"), Moody(payload), KeyError(payload))[len(payload) % 4]


class StandingClock:
    """Sleeps take no time."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(0)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Handling:
    """A router's inside, on a store in memory."""

    def __init__(self) -> None:
        self.controllers = Controllers()
        self.told: list[str] = []
        self.failures = MemoryFailureStore()
        self._registry = JobRegistry([HandleMessage])
        events = Events()
        events.subscribe(Event, lambda event: self.told.append(type(event).__name__))
        failed = FailedMessages(self.failures, "memory", "default")
        self.handler = MessageHandler(
            RouteTable([self.controllers.router]), events=events, record_failure=failed.record, clock=StandingClock()
        )

    async def check(self, message: IncomingMessage) -> None:
        """Handle a message, and see that it was, or that its record holds all of it."""
        before = self.controllers.calls
        self.told.clear()
        await self.handler.handle(message)
        ends = [name for name in self.told if name in ("MessageHandled", "MessageFailed")]
        rows = await self.failures.rows()
        assert len(ends) == 1, f"its end was told {len(ends)} times: {self.told}"
        if ends == ["MessageHandled"]:
            assert not rows
            assert self.controllers.calls == before + 1
        else:
            assert len(rows) == 1
            await self._check_record(rows[0].payload, rows[0].exception, message)
        await self.failures.flush()

    async def _check_record(self, payload: bytes, exception: str, message: IncomingMessage) -> None:
        job: Any = load_job(read_envelope(payload), self._registry)
        recorded = (job.topic, job.payload, job.qos, job.retain, job.properties)
        assert recorded == (message.topic, message.payload, message.qos, message.retain, message.properties)
        assert exception.encode().startswith(b"Traceback")


_TOPICS = [
    *(f"kind/{number}/x" for number in range(11)),
    *("int/7/12345678-1234-5678-1234-567812345678", "int/-0/x", "float/1.5e3/a", "float/1/c"),
    *("uuid/12345678-1234-5678-1234-567812345678/2026-01-01T00:00:00Z", "text/true/1.10", "text//"),
    *("raises/a/b", "by/pump-7", "by/property/x", "a/b/status", "nobody's", "kind"),
]
_PAYLOADS = [
    *(b"", b"{}", b"[]", b"7", b"null", b'"text"', b"\x00\xff", b"[1,2,3]", b'{"id": 7}', b'{"id": {"a": [1]}}'),
    *(b'{"value": 1.5, "at": "2026-01-01T00:00:00Z", "tags": ["a"]}', b'{"key": {"inner": "x"}, "id": "1"}'),
    *(b'[{"value": 1}, {"value": 2}]', b'{"key": "AA==", "kind": "b", "inner": {"key": ""}}'),
    b'{"sku": "12345678-1234-5678-1234-567812345678", "count": 3}',
    b'{"number": 1, "total": "1.10", "readings": [{"value": 1.5}]}',
]


class Messages:
    """Makes messages, most of them by way of the wire, so that they are what the fast path can hand on."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._frames = Frames(random)
        self._mutator = Mutator(random)

    def make(self) -> IncomingMessage:
        topic = self._topic().decode("utf-8", "backslashreplace")[:16_000] or "a"
        return msgspec.structs.replace(self._frames.message(is_v5=True), topic=topic, payload=self._payload())

    def _topic(self) -> bytes:
        topic = self._random.choice(_TOPICS).encode()
        return topic if self._random.random() < 0.6 else self._mutator.mutate(topic)

    def _payload(self) -> bytes:
        payload = self._random.choice(_PAYLOADS)
        match self._random.randrange(4):
            case 0:
                return payload
            case 1:
                return self._mutator.mutate(payload)
            case _:
                return self._mutator.mutate_json(payload)


def fuzz(random: Random, count: int) -> Iterator[bytes]:
    """Try that many messages; each is told before it is tried, as its PUBLISH."""
    messages, handling = Messages(random), Handling()
    with asyncio.Runner() as runner:
        for _ in range(count):
            message = messages.make()
            yield plain_mqtt.write_publish(message, is_v5=True)
            runner.run(handling.check(message))
