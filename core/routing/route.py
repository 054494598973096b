"""A route: a topic pattern, the controller behind it, and how to subscribe."""

from __future__ import annotations

from dataclasses import dataclass

from core.controller import Handler
from core.middleware import Middleware
from core.routing.message_keys import MessageKeys
from core.routing.pattern import Pattern
from core.routing.signature import name_of


@dataclass(frozen=True, slots=True)
class Route:
    pattern: Pattern
    handler: Handler
    qos: int
    shared: bool
    worker_count: int
    middleware: tuple[Middleware, ...]  # the outermost first
    where: str
    """File and line of the registration."""
    keys: MessageKeys | None = None

    @property
    def handler_name(self) -> str:
        return name_of(self.handler)

    def __str__(self) -> str:
        return f"{self.where}: pattern {self.pattern.text!r}"
