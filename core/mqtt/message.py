"""A message as it came from the broker, and a subscription as we ask for it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """The MQTT 5 properties of a PUBLISH (section 3.3.2.3); on MQTT 3.1.1 there are none."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    message_expiry: int | None = None  # seconds
    payload_is_text: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()


NO_PROPERTIES = MessageProperties()


class IncomingMessage(msgspec.Struct, frozen=True, gc=False):
    """One is made for each message that arrives: a frozen dataclass would take six times as long."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    properties: MessageProperties = NO_PROPERTIES
    mid: int = 0
    """The packet identifier; means nothing beyond the connection it came on."""
    connection: int = 0
    """The number of that connection: a later one has a higher."""


@dataclass(frozen=True, slots=True)
class Subscription:
    topic_filter: str
    """With `$share/<group>/` in front where it is shared."""
    qos: int = 1
