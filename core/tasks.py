"""Waiting for asyncio's tasks, ending them, and telling who cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_INSIST_AFTER = 0.1
"""Seconds."""


def start_task(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task that takes its first step at once, where Python has that (3.12): it may be done when this returns."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)
    return loop.create_task(coroutine, name=name)


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Wait until one of these has ended, and end the others. What they return or raise is not looked at."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)  # so that no exception counts as unseen


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Await `work`, or end it once `event` is set; whether it came to its end. What it raised till then is raised."""
    task = asyncio.ensure_future(work)
    try:
        await first_of(asyncio.wait({task}), event.wait())
        if task.done():
            task.result()
            return True
    finally:
        await end_tasks(task)
    await asyncio.gather(task, return_exceptions=True)  # so that no exception counts as unseen
    return False


_cancelled_for_stop: WeakSet[asyncio.Future[Any]] = WeakSet()


def cancel_for_stop(task: asyncio.Future[Any]) -> None:
    """Cancel a task that runs users' code, because we stop.

    That code may cancel its own task too: the idiom of timeouts from before Python 3.11 does. What comes of that
    is a failure, what comes of a stop is none, and CancelledError and Task.cancelling() are the same for both.
    """
    _cancelled_for_stop.add(task)
    task.cancel()


def is_cancelled_for_stop() -> bool:
    """Whether the current task was cancelled by `cancel_for_stop`."""
    return asyncio.current_task() in _cancelled_for_stop


def forget_cancellation() -> None:
    """Take back what cancelled the current task: left as it is, asyncio.TaskGroup takes the task for ending."""
    task = asyncio.current_task()
    while task is not None and task.uncancel():
        pass


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until they have ended; what they raise is theirs.

    Once is not always enough: asyncio.wait_for of Python 3.11, which libraries use, swallows a cancellation
    that comes in the moment in which the awaited thing is done.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_INSIST_AFTER)
