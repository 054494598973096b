"""Payloads: made into what the controller's annotation asks for. The decoder is chosen once per route."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from core.errors import RouteError

Decode: TypeAlias = Callable[[bytes], Any]
NOT_DECODABLE = (ValueError, RecursionError)
"""What a decoder raises: those of msgspec, pydantic and UTF-8 are ValueErrors; JSON can nest too deeply."""


def decoder(annotation: Any) -> Decode:
    """How to decode a payload into the annotated type; `Any` means JSON if it is JSON, else raw bytes.

    Raises RouteError where nothing can be decoded into that type.
    """
    if annotation in (Any, object):
        return json_or_bytes
    if annotation is bytes:
        return bytes
    if annotation is str:
        return bytes.decode
    return _pydantic_decoder(annotation) if _is_of_pydantic(annotation) else _msgspec_decoder(annotation)


def json_or_bytes(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except NOT_DECODABLE:
        return payload


def _msgspec_decoder(annotation: Any) -> Decode:
    try:
        if isinstance(msgspec.inspect.type_info(annotation), msgspec.inspect.CustomType):
            raise TypeError("it is a class without declared fields")
        return msgspec.json.Decoder(annotation).decode
    except Exception as error:
        raise RouteError(
            f"payload: {annotation!r} cannot be decoded into: {error}; annotate it with a dataclass, "
            "a msgspec.Struct, a TypedDict, a pydantic model, a plain type, bytes or str"
        ) from error


def _is_of_pydantic(annotation: Any) -> bool:
    """Whether a pydantic model appears in the annotation; told by its mark, without importing pydantic."""
    return hasattr(annotation, "__pydantic_validator__") or any(map(_is_of_pydantic, typing.get_args(annotation)))


def _pydantic_decoder(annotation: Any) -> Decode:
    if hasattr(annotation, "model_validate_json"):
        return typing.cast(Decode, annotation.model_validate_json)
    from pydantic import TypeAdapter

    return TypeAdapter(annotation).validate_json
