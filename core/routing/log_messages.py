"""Middleware that logs each message with its duration."""

from __future__ import annotations

import logging
import time
from typing import Any

from core.middleware import Middleware, NextHandler
from core.routing.context import Context

_log = logging.getLogger("routemq.messages")


class LogMessages(Middleware):
    """One line per try of a message: topic, size, route, how long the layers inside took (ms)."""

    def __init__(self, level: int = logging.INFO) -> None:
        self._level = level

    async def handle(self, context: Context, next_handler: NextHandler) -> Any:
        started = time.perf_counter()
        try:
            result = await next_handler(context)
        except Exception as error:
            self._line(context, f"failed{_after(started)}: {type(error).__name__}: {error}")
            raise
        self._line(context, f"dropped: {context.dropped}" if context.dropped else f"handled{_after(started)}")
        return result

    def _line(self, context: Context, outcome: str) -> None:
        _log.log(
            self._level,
            "%s (%d bytes, route %s) %s",
            context.topic,
            len(context.payload),
            context.route,
            outcome,
            extra={"correlation_id": context.correlation_id},
        )


def _after(started: float) -> str:
    return f" after {(time.perf_counter() - started) * 1000:.1f} ms"
