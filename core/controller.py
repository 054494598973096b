"""Controllers: where the functions live that messages are routed to."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from core.errors import RouteError

Handler: TypeAlias = Callable[..., Any]


class Controller:
    """Groups handlers. `Devices.status` is routed to as a static method or as a method of `self`.

    For a method of `self` that a route names through its class, RouteMQ makes one instance per route, without
    arguments, when the route is registered; messages share it. Where that does not fit, pass a method of your
    own instance: `Devices(database).status`.
    """


def bound(handler: Handler) -> Handler:
    """The handler itself; or, of a method named through its class, that method of a new instance.

    Raises RouteError where there is no one class to make the instance of.
    """
    if not _expects_self(handler):
        return handler
    instance = _make(_class_of(handler), handler)
    return cast(Handler, getattr(instance, handler.__name__))


def _expects_self(handler: Handler) -> bool:
    return inspect.isfunction(handler) and next(iter(inspect.signature(handler).parameters), None) == "self"


def _class_of(handler: Handler) -> type[Controller]:
    found: Any = sys.modules.get(handler.__module__)
    for name in handler.__qualname__.split(".")[:-1]:
        found = getattr(found, name, None)
    # With subclasses about, nobody can tell which of them the route was meant for: Python hands over the same
    # function for each.
    if isinstance(found, type) and issubclass(found, Controller) and not found.__subclasses__():
        return found
    raise RouteError(f"{handler.__qualname__} expects a `self`; {_REMEDY}")


def _make(owner: type[Controller], handler: Handler) -> Controller:
    try:
        return owner()
    except TypeError as error:
        raise RouteError(f"{handler.__qualname__} needs a {owner.__name__}: {error}; {_REMEDY}") from error


_REMEDY = "make it a @staticmethod, or route to the method of an instance, as in `Devices().status`"
