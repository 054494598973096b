"""Middleware: what happens around a controller, for every message of the routes that it is put on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from core.routing.context import Context

NextHandler: TypeAlias = Callable[[Context], Awaitable[Any]]


class Middleware(ABC):
    """Wraps a controller. Given to a route or a group as an instance, or as a class that needs no arguments.

    One instance serves all messages of its routes, several at once, so it keeps nothing about one message in
    itself: `context.state` is for that.
    """

    @abstractmethod
    async def handle(self, context: Context, next_handler: NextHandler) -> Any:
        """Do something, `return await next_handler(context)`, do something more.

        Left out, the controller does not run and the message counts as handled; say why with
        `context.drop(reason)`. What it returns is handed to the middleware around it.
        """
