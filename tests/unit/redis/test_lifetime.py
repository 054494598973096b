"""Connecting that is given up by whoever waits for it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from core.queue.drivers.lifetime import Lifetime


async def test_of_work_that_ends_after_its_caller_was_cancelled_twice_nothing_is_left() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    begun, cancelled, ends = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        while not ends.is_set():
            try:
                await ends.wait()
            except asyncio.CancelledError:
                cancelled.set()
        raise OSError("refused")

    lifetime = Lifetime(30.0)
    caller = asyncio.create_task(lifetime.limit(work, "no connection"))
    await begun.wait()
    caller.cancel()
    await cancelled.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    (task,) = lifetime._works
    ends.set()
    await asyncio.wait([task])
    assert not lifetime._works
    del task
    gc.collect()
    assert complaints == []
