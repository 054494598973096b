"""Parts of a message by their names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from core.errors import MessagePartError, RouteError
from core.mqtt.message import MessageProperties
from core.routing.client import Client
from core.routing.context import Context
from core.routing.message_part import MessagePart
from core.routing.pattern import Pattern

PATTERN = Pattern.parse("sites/{site}/pumps/{pump:int}/{more:rest}")
TOPIC = "sites/mill/pumps/007/a/b"
PROPERTIES = MessageProperties(user_properties=(("msg-id", "one"), ("msg-id", "two"), ("a.b", "dotted")))


def context(payload: bytes = b"{}", properties: MessageProperties = PROPERTIES) -> Context:
    return Context(
        topic=TOPIC,
        payload=payload,
        qos=1,
        retain=False,
        duplicate=False,
        properties=properties,
        route=PATTERN.text,
        params=PATTERN.parameters(TOPIC.split("/")),
        client=Client(None, properties),
        correlation_id="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def part(text: str, payload: bytes = b"{}") -> Any:
    return MessagePart.parse(text, PATTERN).of(context(payload))


@pytest.mark.parametrize(
    ("text", "payload", "value"),
    [
        ("site", b'{"site": "port"}', "mill"),
        ("pump", b"not JSON", 7),
        ("more", b"", "a/b"),
        ("payload.site", b'{"site": "port"}', "port"),
        ("id", b'{"id": "x"}', "x"),
        ("id", b'{"id": 0}', 0),
        ("id", b'{"id": false}', False),
        ("id", b'{"id": ""}', ""),
        ("id", b'{"id": [1, {"a": null}]}', [1, {"a": None}]),
        ("reading.device.id", b'{"reading": {"device": {"id": 3}}}', 3),
        ("payload.reading.id", b'{"reading": {"id": 3}}', 3),
        ("site.id", b'{"site": {"id": 3}}', 3),
        ("properties.id", b'{"properties": {"id": 1}}', 1),
        ("payload.payload", b'{"payload": 1}', 1),
        ("payload.content", b'{"content": 1}', 1),
        ("property", b'{"property": 1}', 1),
        ("property.msg-id", b"", "one"),
        ("property.a.b", b"", "dotted"),
        ("content", b"\xff\x00", b"\xff\x00"),
        ("content", b"", b""),
        ("a b", b'{"a b": 1}', 1),
    ],
)
def test_a_part_is_found(text: str, payload: bytes, value: Any) -> None:
    assert part(text, payload) == value


def test_a_parameter_called_content_goes_before_the_content() -> None:
    pattern = Pattern.parse("{content}")
    made = context(b"payload")
    made.params = {"content": "level"}
    assert MessagePart.parse("content", pattern).of(made) == "level"


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("id", b"{}"),
        ("id", b"[]"),
        ("id", b"7"),
        ("reading.id", b'{"reading": 7}'),
        ("reading.id", b'{"reading": null}'),
        ("property.other", b""),
        ("payload.site", b"{}"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_part_that_is_not_there_is_named_with_route_and_topic(text: str, payload: bytes) -> None:
    with pytest.raises(MessagePartError) as caught:
        part(text, payload)
    assert str(caught.value) == (
        f"route {PATTERN.text!r}: {text!r} of the message on topic {TOPIC!r} is not there; correct the sender, or the "
        "part that the route names"
    )


@pytest.mark.parametrize(
    "payload", [b"not JSON", b'{"id": "\xff"}', b"", b"[" * 100_000], ids=lambda value: repr(value)[:30]
)
def test_a_payload_that_is_no_json_is_told(payload: bytes) -> None:
    with pytest.raises(MessagePartError, match=r"'id' of the message .* is not there, as the payload is no JSON;"):
        part("id", payload)


@pytest.mark.parametrize(("text", "payload"), [("id", b'{"id": null}'), ("reading.id", b'{"reading": {"id": null}}')])
def test_a_part_that_is_null_is_told(text: str, payload: bytes) -> None:
    with pytest.raises(MessagePartError, match=f"'{text}' of the message .* is null;"):
        part(text, payload)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("propery.msg-id", "property.msg-id"), ("paylod.id", "payload.id"), ("propertie.a.b", "property.a.b")],
)
def test_what_begins_almost_like_a_part_is_refused(text: str, meant: str) -> None:
    with pytest.raises(RouteError) as caught:
        MessagePart.parse(text, PATTERN)
    assert str(caught.value) == f"is it {meant}? If not, a field of that name is payload.{text}"
    assert part(f"payload.{text}", _within(text.split("."), 7)) == 7


def _within(path: list[str], value: object) -> bytes:
    for name in reversed(path):
        value = {name: value}
    return msgspec.json.encode(value)


def test_whether_the_whole_payload_or_a_field_is_meant_must_be_said() -> None:
    with pytest.raises(RouteError, match=r"the content, and a field of that name is payload\.payload"):
        MessagePart.parse("payload", PATTERN)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "payload.", "payload.a.", "property.", 7, None, b"id"])
def test_what_names_no_part_is_refused(text: Any) -> None:
    with pytest.raises(RouteError, match=r"names no part of a message; name a parameter .*payload\.id.*property\.id"):
        MessagePart.parse(text, PATTERN)
