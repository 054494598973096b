"""Binds a message to the parameters that a controller declares, by name. Compiled once per route."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from inspect import Parameter
from typing import Any, TypeAlias

import msgspec

from core.errors import ParameterError, PayloadError
from core.routing import signature
from core.routing.context import Context
from core.routing.pattern import PROVIDED, Pattern
from core.routing.payload import NOT_DECODABLE, Decode, decoder
from core.routing.route import Route

_Value: TypeAlias = Callable[[Context], Any]


class Binding:
    """The arguments of one route's handler. Raises RouteError where an annotation is of no use."""

    def __init__(self, route: Route) -> None:
        parameters = signature.declared(route.handler)
        names = {each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD}
        takes_rest = len(names) < len(parameters)
        self._values = dict(_values(route, names))
        self._rest = [each for each in route.pattern.convertors if takes_rest and each not in names]

    def arguments(self, context: Context) -> dict[str, Any]:
        """Raises PayloadError and ParameterError, which name the route, the topic and the reason."""
        arguments = {name: value(context) for name, value in self._values.items()}
        for name in self._rest:
            arguments[name] = context.params[name]
        return arguments


def _values(route: Route, names: set[str]) -> Iterator[tuple[str, _Value]]:
    hints = signature.hints(route.handler, names - {"context", "client"})
    for name in names.intersection(route.pattern.convertors):
        yield name, _parameter(route.pattern, name, hints.get(name, Any))
    for name in names.intersection(PROVIDED):
        yield name, _provided(name, hints.get(name, Any))


def _provided(name: str, annotation: Any) -> _Value:
    if name == "payload":
        return partial(_payload, decoder(annotation), annotation)
    return _context if name == "context" else _client


def _context(context: Context) -> Context:
    return context


def _client(context: Context) -> Any:
    return context.client


def _payload(decode: Decode, annotation: Any, context: Context) -> Any:
    try:
        return decode(context.payload)
    except NOT_DECODABLE as error:
        raise PayloadError(
            f"route {context.route!r}: the payload of topic {context.topic!r} ({len(context.payload)} bytes) "
            f"is no {_type_name(annotation)}: {error}; correct the sender, or what the controller declares"
        ) from error


def _parameter(pattern: Pattern, name: str, annotation: Any) -> _Value:
    if annotation in (Any, object, pattern.convertors[name].type):
        return lambda context: context.params[name]
    return partial(_converted, pattern, name, annotation)


def _converted(pattern: Pattern, name: str, annotation: Any, context: Context) -> Any:
    text = pattern.text_of(name, context.topic.split("/"))
    try:
        return msgspec.convert(text, annotation, strict=False)
    except msgspec.ValidationError as error:
        raise ParameterError(
            f"route {context.route!r}: {name!r} of topic {context.topic!r} is {text!r}, not a "
            f"{_type_name(annotation)}: {error}; write {{{name}:int}} or the like to match only what fits"
        ) from error


def _type_name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))
