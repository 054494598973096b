"""Turns messages into jobs."""

from __future__ import annotations

from inspect import signature

from core.queue.queue_manager import queue
from core.router import Router
from core.routing.client import Client
from tests.chaos.app import census, record
from tests.chaos.app.jobs.work import Work, job_of
from tests.chaos.app.orders import Order

_PREFIX = "chaos/orders"


async def take(payload: Order) -> None:
    await _dispatch(payload, job_of(payload))


async def take_keyed(payload: Order) -> None:
    """The class of its job has no key: it gets that of the route."""
    await _dispatch(payload, Work(order=payload.id, seconds=payload.seconds, failures=payload.failures))


async def relay(payload: Order, client: Client) -> None:
    await client.publish(f"{_PREFIX}/once", payload, qos=1)


async def _dispatch(order: Order, job: Work) -> None:
    census.tell()
    record.ledger().write("handled", order.id)
    await queue.push(job, delay=order.delay)


def topic_of(order: Order) -> str:
    if order.relayed:
        return f"{_PREFIX}/relayed"
    if order.key:
        return f"{_PREFIX}/keyed/{order.key}"
    return f"{_PREFIX}/once" if order.once else _PREFIX


router = Router()
router.on(_PREFIX, take, qos=1)
if "ordered_by" in signature(Router.on).parameters:  # the previous version, beside which a run plays this, has it not
    router.on(f"{_PREFIX}/keyed/{{key}}", take_keyed, qos=1, ordered_by="key")
    router.on(f"{_PREFIX}/once", take, qos=1, deduplicate_by="payload.id")
    router.on(f"{_PREFIX}/relayed", relay, qos=1)
