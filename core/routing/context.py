"""All that is known about the message in hand, for controllers and middleware; a mapping too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.mqtt.message import IncomingMessage, MessageProperties
from core.queue.job_id import new_job_id
from core.routing.client import Client

_CORRELATION_NAMES = ("correlation_id", "correlation-id", "x-correlation-id")


@dataclass(slots=True, eq=False)
class Context(Mapping[str, Any]):
    """One try of one message: a try after a failure gets a new one, so that `state` never leaks into it.

    `context["topic"]` is `context.topic`. A middleware may replace `payload`, e.g. by its decompressed form,
    before the controller's payload is decoded from it, and keep what it likes in `state`.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    properties: MessageProperties
    route: str  # the pattern
    params: dict[str, Any]  # converted as the pattern says
    client: Client
    correlation_id: str
    received_at: datetime  # UTC
    marks: set[object] = field(default_factory=set)
    """Unlike the rest, shared by all tries of the message: for what is done to it once, such as counting."""
    state: dict[str, Any] = field(default_factory=dict)
    dropped: str | None = None

    def drop(self, reason: str) -> None:
        """Say that the message is left out on purpose. Then return without calling the next handler."""
        self.dropped = reason

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)


def correlation_id_of(message: IncomingMessage) -> str:
    """The id that the sender gave the message: its correlation data, or a user property; else a new one."""
    data = message.properties.correlation_data
    if data:
        return _as_text(data)
    named = (text for name, text in message.properties.user_properties if name.lower() in _CORRELATION_NAMES)
    return next(named, None) or new_job_id()


def _as_text(data: bytes) -> str:
    """Correlation data is any bytes (MQTT 5, section 3.3.2.3.6): text where it is text, else hexadecimal."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.hex()
    return text if text.isprintable() else data.hex()
