"""A part of a message, by the name that a route gives it:

    device_id          a parameter of the pattern; where that has none of this name, a field of the JSON payload
    reading.id         a field within a field
    payload.device_id  a field of the payload, whatever the pattern has
    property.msg-id    a user property of MQTT 5; the first, where there are several of this name
    content            the whole payload

The message is looked at as it came, before any middleware.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeAlias

import msgspec

from core.errors import MessagePartError, RouteError
from core.routing.context import Context
from core.routing.pattern import Pattern
from core.routing.payload import NOT_DECODABLE

_Read: TypeAlias = Callable[[Context], Any]
"""The value of a part. Where the message lacks it, None or LookupError, which says why."""


@dataclass(frozen=True, slots=True)
class MessagePart:
    text: str
    """Its name, as the route gives it."""
    _read: _Read

    @classmethod
    def parse(cls, text: object, pattern: Pattern) -> MessagePart:
        """Raises RouteError: what is wrong with `text`, and what to write instead."""
        if not isinstance(text, str):
            raise RouteError(f"it names no part of a message; {_FORMS}")
        return cls(text, _reader(text, pattern))

    def of(self, context: Context) -> Any:
        """Its value. Raises MessagePartError where the message lacks it."""
        try:
            value = self._read(context)
        except LookupError as error:
            raise self.error(context, str(error)) from error
        if value is None:
            raise self.error(context, "is not there")
        return value

    def error(self, context: Context, problem: str) -> MessagePartError:
        return MessagePartError(
            f"route {context.route!r}: {self.text!r} of the message on topic {context.topic!r} {problem}; correct the "
            "sender, or the part that the route names"
        )


_FORMS = (
    "name a parameter of the pattern, a field of the JSON payload (payload.id, with further dots for one within it), a "
    "user property (property.id), or the content"
)
_PREFIXES = ("payload", "property")


def _reader(text: str, pattern: Pattern) -> _Read:
    if text in pattern.convertors:
        return partial(_parameter, text)
    if text == "content":
        return _content
    if text.startswith("property.") and text != "property.":
        return partial(_property, text.removeprefix("property."))
    if text == "payload":
        raise RouteError("the whole payload is the content, and a field of that name is payload.payload; write which")
    path = text.removeprefix("payload.").split(".")
    if not all(path):
        raise RouteError(f"it names no part of a message; {_FORMS}")
    if not text.startswith("payload."):
        _require_no_misspelling(path)
    return partial(_field, path)


def _require_no_misspelling(path: Sequence[str]) -> None:
    """A field within a field may be called anything, and will hardly be called almost like what parts begin with."""
    first, *rest = path
    for near in get_close_matches(first, _PREFIXES, n=1, cutoff=0.8) if rest else ():
        raise RouteError(f"is it {'.'.join([near, *rest])}? If not, a field of that name is payload.{'.'.join(path)}")


def _parameter(name: str, context: Context) -> Any:
    return context.params[name]


def _content(context: Context) -> bytes:
    return context.payload


def _property(name: str, context: Context) -> str | None:
    return next((value for each, value in context.properties.user_properties if each == name), None)


def _field(path: Sequence[str], context: Context) -> Any:
    try:
        value = msgspec.json.decode(context.payload)
    except NOT_DECODABLE as error:
        raise LookupError("is not there, as the payload is no JSON") from error
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    if value is None:
        raise LookupError("is null")
    return value
