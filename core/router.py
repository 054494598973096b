"""The router that users write: `router = Router()` in a module of app/routers, then `router.on(...)`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeAlias

from core.controller import Handler, bound
from core.errors import RouteError
from core.middleware import Middleware
from core.routing import signature
from core.routing.message_keys import KeyOptions, MessageKeys
from core.routing.pattern import Pattern
from core.routing.route import Route

MiddlewareLike: TypeAlias = Middleware | type[Middleware]


class Router:
    """Collects routes. Each is checked when it is registered, so that an error names the line to correct."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._prefix = ""
        self._middleware: tuple[Middleware, ...] = ()
        self._keys = KeyOptions()

    def on(
        self,
        pattern: str,
        handler: Handler,
        *,
        qos: int = 1,
        shared: bool = False,
        worker_count: int = 1,
        middleware: Sequence[MiddlewareLike] = (),
        deduplicate_by: str | None = None,
        deduplicate_for: float | timedelta | None = None,
        ordered_by: str | None = None,
    ) -> None:
        """Route the messages whose topic matches `pattern` to `handler`.

        `qos` is that of the subscription, 0 or 1. With `shared=True` the route is served by `worker_count`
        processes, among which the broker shares the messages out. `middleware` goes inside that of the
        groups, the outermost first.

        `deduplicate_by` names the part of a message (see core/routing/message_part.py) by which one that is delivered
        or sent again within `deduplicate_for` seconds, an hour unless given, is known: what it dispatches is stored
        once. `ordered_by` names the part whose messages are handled one at a time, in the order of their arrival, and
        whose jobs run so: it is their ordering key, unless they have one of their own.

        Raises RouteError: file, line, pattern, what is wrong and what to do.
        """
        text, where = _joined(self._prefix, pattern), _caller()
        try:
            _check_delivery(qos, shared, worker_count)
            parsed, layers = Pattern.parse(text), self._with(middleware)
            handler = bound(handler)
            signature.check(handler, parsed.convertors)
            options = KeyOptions(deduplicate_by, deduplicate_for, ordered_by).within(self._keys)
            keys = MessageKeys.of(options, parsed, shared=shared)
        except RouteError as error:
            raise RouteError(f"{where}: pattern {text!r}: {error}") from error
        self.routes.append(Route(parsed, handler, qos, shared, worker_count, layers, where, keys))

    @contextmanager
    def group(
        self,
        prefix: str = "",
        middleware: Sequence[MiddlewareLike] = (),
        *,
        deduplicate_by: str | None = None,
        deduplicate_for: float | timedelta | None = None,
        ordered_by: str | None = None,
    ) -> Iterator[Router]:
        """Routes under a common prefix, with common middleware, and with what else they do not say themselves.

        Groups may be nested.
        """
        inner = Router()
        inner.routes = self.routes
        inner._prefix = _joined(self._prefix, prefix)
        inner._middleware = self._with(middleware)
        inner._keys = KeyOptions(deduplicate_by, deduplicate_for, ordered_by).within(self._keys)
        yield inner

    def _with(self, middleware: Sequence[MiddlewareLike]) -> tuple[Middleware, ...]:
        return (*self._middleware, *map(_instance, middleware))


def _joined(prefix: str, pattern: str) -> str:
    if not prefix or not pattern:
        return prefix or pattern
    return f"{prefix.rstrip('/')}/{pattern.lstrip('/')}"


def _check_delivery(qos: int, shared: bool, worker_count: int) -> None:
    if qos == 2:
        raise RouteError("qos=2 would lose messages: it takes a message over before its jobs are stored; use qos=1")
    if qos not in (0, 1):
        raise RouteError(f"qos={qos!r} is not a quality of service; use 0 or 1")
    if worker_count < 1:
        raise RouteError(f"worker_count={worker_count!r}: a shared route needs at least one process")
    if worker_count > 1 and not shared:
        raise RouteError(f"worker_count={worker_count!r} without shared=True would do nothing; add that")


def _instance(middleware: Any) -> Middleware:
    made = _made(middleware) if isinstance(middleware, type) else middleware
    if isinstance(made, Middleware):
        return made
    raise RouteError(f"middleware {middleware!r} is not a Middleware; derive it from core.middleware.Middleware")


def _made(middleware: type[Any]) -> Any:
    try:
        return middleware()
    except TypeError as error:
        raise RouteError(f"middleware {middleware.__name__} cannot be made: {error}; pass an instance") from error


def _caller() -> str:
    """File and line outside this file that called, as a path from here where that is shorter."""
    frame = sys._getframe()  # noqa: SLF001 - the way to a caller without reading source files
    while frame.f_back and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    path = frame.f_code.co_filename
    return f"{min(path, os.path.relpath(path), key=len)}:{frame.f_lineno}"
