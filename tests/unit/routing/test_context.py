from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from core.mqtt.message import NO_PROPERTIES, IncomingMessage, MessageProperties
from core.routing.client import Client
from core.routing.context import Context, correlation_id_of


def _context(**changes: Any) -> Context:
    fields: dict[str, Any] = {
        "topic": "a/b",
        "payload": b"x",
        "qos": 1,
        "retain": True,
        "duplicate": False,
        "properties": NO_PROPERTIES,
        "route": "a/{b}",
        "params": {"b": "b"},
        "client": Client(None, NO_PROPERTIES),
        "correlation_id": "c",
        "received_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Context(**{**fields, **changes})


def test_a_context_is_a_mapping_too() -> None:
    context = _context()
    assert context["topic"] == context.topic == "a/b"
    assert context.get("retain") is True
    assert context.get("nothing", "else") == "else"
    assert "payload" in context
    assert "nothing" not in context
    assert {"topic", "payload", "qos", "retain", "properties", "correlation_id", "params"} <= set(context)
    assert len(context) == len(list(context))
    with pytest.raises(KeyError):
        context["drop"]


def test_each_context_has_a_state_of_its_own() -> None:
    one, other = _context(), _context()
    one.state["user"] = 7
    assert one["state"] == {"user": 7}
    assert other.state == {}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (MessageProperties(correlation_data=b"order-7"), "order-7"),
        (MessageProperties(correlation_data=b"\xff\x00"), "ff00"),
        (MessageProperties(correlation_data=b"\n"), "0a"),
        (MessageProperties(user_properties=(("site", "a"), ("Correlation-Id", "7"))), "7"),
        (MessageProperties(correlation_data=b"d", user_properties=(("correlation_id", "u"),)), "d"),
    ],
)
def test_the_sender_may_name_the_correlation_id(properties: MessageProperties, expected: str) -> None:
    assert correlation_id_of(IncomingMessage("a", b"", properties=properties)) == expected


def test_else_the_correlation_id_is_new() -> None:
    message = IncomingMessage("a", b"", properties=MessageProperties(user_properties=(("correlation_id", ""),)))
    assert UUID(correlation_id_of(message)) != UUID(correlation_id_of(message))
