"""A route made ready to run: its arguments bound, its middleware wrapped around, once, at the start."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.controller import Handler
from core.errors import RouteError
from core.middleware import Middleware, NextHandler
from core.routing.binding import Binding
from core.routing.context import Context
from core.routing.route import Route
from core.routing.signature import runs_in_thread
from core.threads import plainly_as


@dataclass(frozen=True, slots=True)
class Endpoint:
    route: Route
    run: NextHandler

    @classmethod
    def of(cls, route: Route, threads: Executor | None = None) -> Endpoint:
        """`threads` run plain functions.

        Raises RouteError, which names the registration, where the handler's annotations are of no use.
        """
        try:
            run = _controller(route, threads)
        except RouteError as error:
            raise RouteError(f"{route}: {error}") from error
        for layer in reversed(route.middleware):
            run = _around(layer, run)
        return cls(route, run)


def _around(layer: Middleware, inner: NextHandler) -> NextHandler:
    return lambda context: layer.handle(context, inner)


def _controller(route: Route, threads: Executor | None) -> NextHandler:
    binding, handler = Binding(route), route.handler
    call = (
        partial(_call_in_thread, threads, f"controller {route.handler_name} of {route.pattern.text}")
        if runs_in_thread(handler)
        else _call
    )

    async def run(context: Context) -> Any:
        return await call(handler, binding.arguments(context))

    return run


async def _call(handler: Handler, arguments: dict[str, Any]) -> Any:
    return await handler(**arguments)


async def _call_in_thread(threads: Executor | None, name: str, handler: Handler, arguments: dict[str, Any]) -> Any:
    """Run a plain function beside the event loop. What it hands back to be awaited is awaited on the loop."""
    call = partial(copy_context().run, plainly_as, name, handler, **arguments)
    result = await asyncio.get_running_loop().run_in_executor(threads, call)
    return await result if inspect.isawaitable(result) else result
