from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from core.queue.queue_manager import dispatch
from core.router import Router
from tests.acceptance.sample_app import journal
from tests.acceptance.sample_app.jobs.work import Record


@dataclass
class Reading:
    n: int


async def number(payload: int) -> None:
    await dispatch(Record(n=payload), queue="a" if payload % 2 else "b")


async def gated(n: int) -> None:
    journal.write("controller waiting", n=n)
    while not journal.is_gate_open():  # noqa: ASYNC110, the gate is a file
        await asyncio.sleep(0.02)
    await dispatch(Record(n=n), queue="a")


async def typed(payload: Reading) -> None:
    await dispatch(Record(n=payload.n), queue="a")


async def raw(payload: bytes) -> None:
    journal.write("raw", size=len(payload))


async def flaky(payload: int) -> None:
    journal.write("flaky", n=payload)
    if not journal.is_gate_open():
        raise RuntimeError("the gate is closed")
    await dispatch(Record(n=payload), queue="a")


async def once(payload: int) -> None:
    """Has dispatched, and is not acknowledged, until the gate opens."""
    await dispatch(Record(n=payload), queue="a")
    journal.write("dispatched", n=payload)
    while not journal.is_gate_open():  # noqa: ASYNC110, the gate is a file
        await asyncio.sleep(0.02)
    journal.write("handled", n=payload)


async def shared(payload: int) -> None:
    journal.write("shared", n=payload)
    await dispatch(Record(n=payload), queue="a")


# The test's own topics, so that brokers may serve several tests.
router = Router()
with router.group(prefix=os.environ.get("SAMPLE_TOPICS", "sample")) as sample:
    sample.on("numbers", number)
    sample.on("gated/{n:int}", gated)
    sample.on("typed", typed)
    sample.on("raw", raw)
    sample.on("flaky", flaky)
    sample.on("once", once, deduplicate_by="content")
    if os.environ.get("SAMPLE_SHARED"):
        sample.on("shared", shared, shared=True, worker_count=2)
