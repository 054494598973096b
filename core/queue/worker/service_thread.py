"""Runs a service of the worker in a thread of its own, where no job can hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any


async def run_in_thread(function: Callable[[], None], stop: Callable[[], None], name: str) -> None:
    """Run `function` in a thread. Cancelled, call `stop`, and wait until `function` has returned."""
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    running = asyncio.get_running_loop().run_in_executor(pool, function)
    pool.shutdown(wait=False)
    try:
        await asyncio.shield(running)
    finally:
        stop()
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})


async def run_on_own_loop(service: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Run `service` on an event loop in a thread. Cancelled, cancel it there, and wait until it has ended."""
    loop = asyncio.new_event_loop()

    def run() -> None:
        with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(service())

    def stop() -> None:
        with suppress(RuntimeError):  # closed, as it has ended
            loop.call_soon_threadsafe(partial(_cancel_all, loop))

    await run_in_thread(run, stop, name)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
