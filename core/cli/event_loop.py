"""The event loop of a command, and its end.

A coroutine of the app's may swallow its cancellation, and asyncio would wait for it for ever. What it still does is
cut off: its job or message was handed back, and runs again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from core.tasks import end_tasks

T = TypeVar("T")

_log = logging.getLogger("routemq")

_TASKS_GET = 2.0
"""Seconds to come to their end once they are cancelled."""


def run_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed; what the app's code has left running is cut off after a while."""
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        return runner.run(coroutine)
    finally:
        runner.run(_end_other_tasks())
        runner.get_loop().close()  # and not the runner, which would wait for tasks and threads for ever


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _end_other_tasks() -> None:
    """End every other task of this loop, as asyncio.run() does, but wait only so long for those that do not heed it."""
    others = {each for each in asyncio.all_tasks() if each is not asyncio.current_task()}
    with suppress(TimeoutError):
        async with asyncio.timeout(_TASKS_GET):
            await end_tasks(*others)
            await asyncio.get_running_loop().shutdown_asyncgens()
    for task in others:
        if not task.done():
            _log.warning("task %r does not end although it is cancelled; it is cut off", task.get_name())
