from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

from core.errors import ParameterError, PayloadError, RouteError
from core.mqtt.message import NO_PROPERTIES
from core.router import Router
from core.routing.binding import Binding
from core.routing.client import Client
from core.routing.context import Context


@dataclass
class Reading:
    value: float
    unit: str = "C"


class StructReading(msgspec.Struct):
    value: float


class DictReading(TypedDict):
    value: float


class ModelReading(pydantic.BaseModel):
    value: float = pydantic.Field(ge=0)


@pydantic.dataclasses.dataclass
class PydanticReading:
    value: float


class Opaque:
    pass


def _arguments(handler: Any, topic: str = "x/7", payload: bytes = b"", pattern: str = "x/{pump}") -> dict[str, Any]:
    router = Router()
    router.on(pattern, handler)
    (route,) = router.routes
    context = Context(
        topic=topic,
        payload=payload,
        qos=1,
        retain=False,
        duplicate=False,
        properties=NO_PROPERTIES,
        route=pattern,
        params=route.pattern.parameters(topic.split("/")),
        client=Client(None, NO_PROPERTIES),
        correlation_id="c",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Binding(route).arguments(context)


# ── topics ──


def test_only_what_is_declared_is_passed() -> None:
    assert _arguments(lambda: None) == {}
    assert _arguments(lambda pump: None) == {"pump": "7"}


def test_context_and_client_are_passed_by_name() -> None:
    arguments = _arguments(lambda client, context: None)
    assert arguments["context"].topic == "x/7"
    assert arguments["client"] is arguments["context"].client


def test_a_parameter_is_converted_by_the_pattern() -> None:
    assert _arguments(lambda pump: None, pattern="x/{pump:int}") == {"pump": 7}


def test_a_parameter_is_converted_by_its_annotation() -> None:
    def handler(pump: int) -> None: ...

    assert _arguments(handler) == {"pump": 7}


def test_the_annotation_is_nearer_than_the_pattern() -> None:
    def as_text(pump: str) -> None: ...

    def as_number(pump: float) -> None: ...

    assert _arguments(as_text, topic="x/007", pattern="x/{pump:int}") == {"pump": "007"}
    assert _arguments(as_number, pattern="x/{pump:int}") == {"pump": 7.0}


def test_an_annotation_may_carry_limits() -> None:
    assert _arguments(limited) == {"pump": 7}
    with pytest.raises(ParameterError, match=">= 1"):
        _arguments(limited, topic="x/0")


def limited(pump: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...


def test_a_parameter_that_does_not_fit_names_route_topic_and_reason() -> None:
    with pytest.raises(ParameterError) as refused:
        _arguments(keyed, topic="x/seven")
    for part in ("route 'x/{pump}'", "topic 'x/seven'", "'seven', not a UUID"):
        assert part in str(refused.value)


def keyed(pump: UUID) -> None: ...


def test_rest_keywords_take_the_parameters_that_are_left() -> None:
    def handler(a: int, **rest: str) -> None: ...

    assert _arguments(handler, topic="1/2/3", pattern="{a}/{b}/{c:int}") == {"a": 1, "b": "2", "c": 3}


def test_a_default_stands_where_there_is_nothing_to_pass() -> None:
    assert _arguments(lambda pump, limit=5: None) == {"pump": "7"}


class Methods:
    async def method(self, pump: int, payload: Reading) -> None: ...

    @staticmethod
    async def static(pump: int, payload: Reading) -> None: ...

    @classmethod
    async def class_method(cls, pump: int, payload: Reading) -> None: ...

    async def __call__(self, pump: int, payload: Reading) -> None: ...


@functools.wraps(Methods.static)
async def wrapped(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        Methods().method,
        Methods.static,
        Methods.class_method,
        Methods(),
        functools.partial(Methods().method),
        functools.partial(Methods()),
        wrapped,
    ],
)
def test_annotations_are_found_on_handlers_of_every_kind(handler: Any) -> None:
    assert _arguments(handler, payload=b'{"value": 1}') == {"pump": 7, "payload": Reading(1.0)}


# ── payloads ──


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"[1, 2]", [1, 2]),
        (b"21.5", 21.5),
        (b"null", None),
        (b"", b""),
        (b"plain words", b"plain words"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b'"\xff"', b'"\xff"'),
        (b'{"a": ', b'{"a": '),
        (b"[" * 100_000, b"[" * 100_000),
    ],
)
def test_without_annotation_a_payload_is_json_or_raw(payload: bytes, expected: Any) -> None:
    assert _arguments(lambda payload: None, payload=payload) == {"payload": expected}


def as_any(payload: Any) -> None: ...
def as_bytes(payload: bytes) -> None: ...
def as_text(payload: str) -> None: ...
def as_dataclass(payload: Reading) -> None: ...
def as_struct(payload: StructReading) -> None: ...
def as_typed_dict(payload: DictReading) -> None: ...
def as_model(payload: ModelReading) -> None: ...
def as_pydantic_dataclass(payload: PydanticReading) -> None: ...
def as_models(payload: list[ModelReading]) -> None: ...
def as_dict(payload: dict[str, int]) -> None: ...
def as_list(payload: list[int]) -> None: ...
def as_number(payload: int) -> None: ...
def as_optional(payload: Reading | None) -> None: ...
def as_opaque(payload: Opaque) -> None: ...
def as_impossible(payload: list[int] | tuple[int, ...]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "payload", "expected"),
    [
        (as_any, b"[1]", [1]),
        (as_bytes, b"[1]", b"[1]"),
        (as_text, "grün".encode(), "grün"),
        (as_text, b"", ""),
        (as_dataclass, b'{"value": 1}', Reading(1.0)),
        (as_struct, b'{"value": 1}', StructReading(1.0)),
        (as_typed_dict, b'{"value": 1}', {"value": 1.0}),
        (as_model, b'{"value": 1}', ModelReading(value=1.0)),
        (as_pydantic_dataclass, b'{"value": 1}', PydanticReading(1.0)),
        (as_models, b'[{"value": 1}]', [ModelReading(value=1.0)]),
        (as_dict, b'{"a": 1}', {"a": 1}),
        (as_list, b"[1]", [1]),
        (as_number, b"7", 7),
        (as_optional, b"null", None),
    ],
)
def test_a_payload_becomes_what_the_annotation_says(handler: Any, payload: bytes, expected: Any) -> None:
    assert _arguments(handler, payload=payload) == {"payload": expected}


@pytest.mark.parametrize(
    ("handler", "payload"),
    [
        (as_text, b"\xff\xfe"),
        (as_dataclass, b""),
        (as_dataclass, b"not JSON"),
        (as_dataclass, b"\xff\xfe"),
        (as_dataclass, b'{"value": "hot"}'),
        (as_dataclass, b'{"unit": "C"}'),
        (as_dataclass, b'{"value": 1'),
        (as_dataclass, b'{"value": 1, "unit": "\xff"}'),
        (as_struct, b"[]"),
        (as_typed_dict, b"{}"),
        (as_model, b'{"value": -1}'),
        (as_model, b"\xff"),
        (as_models, b'[{"value": -1}]'),
        (as_dict, b'{"a": "x"}'),
        (as_list, b"[" * 100_000),
        (as_number, b"7.5"),
    ],
)
def test_a_payload_that_does_not_fit_names_route_topic_and_reason(handler: Any, payload: bytes) -> None:
    with pytest.raises(PayloadError) as refused:
        _arguments(handler, payload=payload)
    assert "route 'x/{pump}'" in str(refused.value)
    assert f"topic 'x/7' ({len(payload)} bytes) is no " in str(refused.value)
    assert refused.value.__cause__ is not None


def test_a_payload_of_a_mebibyte_is_decoded() -> None:
    assert _arguments(as_list, payload=b"[" + b"1," * (512 * 1024) + b"1]")["payload"] == [1] * (512 * 1024 + 1)


@pytest.mark.parametrize("handler", [as_opaque, as_impossible])
def test_a_type_that_nothing_can_be_decoded_into_is_refused_at_the_start(handler: Any) -> None:
    with pytest.raises(RouteError, match="annotate it with a dataclass"):
        _arguments(handler)
