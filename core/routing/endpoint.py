"""A route made ready to run: its arguments bound, its middleware wrapped around, once, at the start."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import Any

from core.controller import Handler
from core.errors import RouteError
from core.middleware import Middleware, NextHandler
from core.routing.binding import Binding
from core.routing.context import Context
from core.routing.route import Route
from core.routing.signature import runs_in_thread
from core.threads import plainly


@dataclass(frozen=True, slots=True)
class Endpoint:
    route: Route
    run: NextHandler

    @classmethod
    def of(cls, route: Route) -> Endpoint:
        """Raises RouteError, which names the registration, where the handler's annotations are of no use."""
        try:
            run = _controller(route)
        except RouteError as error:
            raise RouteError(f"{route}: {error}") from error
        for layer in reversed(route.middleware):
            run = _around(layer, run)
        return cls(route, run)


def _around(layer: Middleware, inner: NextHandler) -> NextHandler:
    return lambda context: layer.handle(context, inner)


def _controller(route: Route) -> NextHandler:
    binding, handler = Binding(route), route.handler
    call = _call_in_thread if runs_in_thread(handler) else _call

    async def run(context: Context) -> Any:
        return await call(handler, binding.arguments(context))

    return run


async def _call(handler: Handler, arguments: dict[str, Any]) -> Any:
    return await handler(**arguments)


async def _call_in_thread(handler: Handler, arguments: dict[str, Any]) -> Any:
    """Run a plain function beside the event loop. What it hands back to be awaited is awaited on the loop."""
    result = await asyncio.to_thread(plainly, handler, **arguments)
    return await result if inspect.isawaitable(result) else result
