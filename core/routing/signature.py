"""What a controller declares: its parameters, and the types they are annotated with."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Collection, Iterable
from types import SimpleNamespace
from typing import Any

from core.controller import Handler
from core.errors import RouteError
from core.routing.pattern import PROVIDED

_Kind = inspect.Parameter


def name_of(handler: Handler) -> str:
    return str(getattr(_function(handler), "__qualname__", handler))


def runs_in_thread(handler: Handler) -> bool:
    """Whether the handler is a plain function, which may block and so must not run on the event loop."""
    return not inspect.iscoroutinefunction(_called(handler))


def declared(handler: Handler) -> list[inspect.Parameter]:
    """The parameters that are passed by name, `**rest` included."""
    return [each for each in _signature(handler).values() if each.kind is not _Kind.VAR_POSITIONAL]


def check(handler: Any, names: Collection[str]) -> None:
    """Raises RouteError where a handler cannot be called with these parameters and what RouteMQ provides."""
    if not callable(handler) or isinstance(handler, type):
        raise RouteError(f"the handler is {handler!r}; pass a function or a method, without calling it")
    if inspect.isgeneratorfunction(_called(handler)) or inspect.isasyncgenfunction(_called(handler)):
        raise RouteError(f"{name_of(handler)} contains `yield` and would never run; return instead")
    for parameter in declared(handler):
        _check_parameter(parameter, handler, names)


def hints(handler: Handler, names: Iterable[str]) -> dict[str, Any]:
    """The types of the parameters named, as far as they are annotated, text such as "Reading" resolved.

    Raises RouteError where a name in an annotation is not defined at run time.
    """
    function = _function(handler)
    found = {name: hint for name, hint in _raw_annotations(function).items() if name in set(names)}
    try:
        return typing.get_type_hints(
            SimpleNamespace(__annotations__=found), getattr(function, "__globals__", {}), include_extras=True
        )
    except Exception as error:
        raise RouteError(
            f"an annotation of {name_of(handler)} cannot be resolved: {error}; "
            "import or define the type at the top of the module, outside `if TYPE_CHECKING`"
        ) from error


def _signature(handler: Handler) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(handler).parameters)
    except (TypeError, ValueError) as error:
        raise RouteError(f"the parameters of {handler!r} are not known: {error}; wrap it in a function") from error


def _check_parameter(parameter: inspect.Parameter, handler: Handler, names: Collection[str]) -> None:
    if parameter.kind is _Kind.POSITIONAL_ONLY:
        raise RouteError(f"{name_of(handler)}: {parameter.name!r} is positional-only; remove the `/`")
    if parameter.kind is _Kind.VAR_KEYWORD or parameter.default is not _Kind.empty:
        return
    if parameter.name not in names and parameter.name not in PROVIDED:
        raise RouteError(
            f"{name_of(handler)} asks for {parameter.name!r}, which the pattern does not have; "
            f"available are {', '.join([*names, *PROVIDED])}. Correct one of the two, or give it a default"
        )


def _raw_annotations(function: Any) -> dict[str, Any]:
    return dict(getattr(function, "__annotations__", {}))


def _called(handler: Any) -> Any:
    """What Python runs when the handler is called: of an object, its `__call__`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler if inspect.isroutine(handler) else handler.__call__


def _function(handler: Handler) -> Any:
    """The function as its author wrote it, below partials, methods and decorators."""
    called = _called(handler)
    return inspect.unwrap(getattr(called, "__func__", called))
