"""Turns messages into jobs."""

from __future__ import annotations

from core.queue.queue_manager import queue
from core.router import Router
from tests.chaos.app import census, record
from tests.chaos.app.jobs.work import job_of
from tests.chaos.app.orders import Order

TOPIC = "chaos/orders"


async def take(payload: Order) -> None:
    census.tell()
    record.ledger().write("handled", payload.id)
    await queue.push(job_of(payload), delay=payload.delay)


router = Router()
router.on(TOPIC, take, qos=1)
