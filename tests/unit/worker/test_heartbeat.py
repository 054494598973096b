"""Beats from a thread of their own, where no job can hold them up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import pytest

from core.errors import QueueUnavailableError
from core.observability.events import Event, Events, StoreBack, StoreLost
from core.queue.driver import Driver
from core.queue.state import Lease
from core.queue.worker.heartbeat import Heartbeat
from core.queue.worker.outage import Outage
from core.tasks import end_tasks
from tests.unit.worker.conftest import PROMPT

LEASE = 0.06


class Store:
    """What a heartbeat asks of a driver; tells from which thread."""

    def __init__(self) -> None:
        self.beats = threading.Semaphore(0)
        self.threads: set[int] = set()
        self.lost: set[str] = set()
        self.troubles = 0
        self.is_closed = False

    async def renew(self, leases: Sequence[Lease], lease: float) -> AbstractSet[str]:
        return self._beat({each.job_id for each in leases} & self.lost)

    async def ping(self) -> None:
        self._beat(set())

    async def close(self) -> None:
        self.is_closed = True

    def _beat(self, lost: set[str]) -> set[str]:
        self.threads.add(threading.get_ident())
        self.beats.release()
        if self.troubles:
            self.troubles -= 1
            raise QueueUnavailableError("the store is away")
        return lost

    def heartbeat(self, **options: Any) -> Heartbeat:
        driver = cast("Driver", self)
        given: dict[str, Any] = {"outage": Outage(Events()), "on_lost": lambda _: None, "open_driver": lambda: driver}
        return Heartbeat(driver, LEASE, **given | options)


async def test_leases_are_renewed_while_the_loop_is_blocked() -> None:
    store = Store()
    heartbeat = store.heartbeat()
    heartbeat.hold(Lease("a", "q", "1"))
    beating = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0)
    for _ in range(6):
        assert store.beats.acquire(timeout=PROMPT), "while the loop is blocked"
    assert threading.get_ident() not in store.threads
    await end_tasks(beating)
    assert store.is_closed


async def test_a_lost_lease_is_told_on_the_loop_and_once() -> None:
    store, lost, told = Store(), asyncio.Event(), []

    def on_lost(lease: Lease) -> None:
        told.append((lease.job_id, threading.get_ident()))
        lost.set()

    heartbeat = store.heartbeat(on_lost=on_lost)
    store.lost = {"a"}
    heartbeat.hold(Lease("a", "q", "1"))
    heartbeat.hold(Lease("b", "q", "1"))
    beating = asyncio.create_task(heartbeat.run())
    await asyncio.wait_for(lost.wait(), PROMPT)
    for _ in range(4):
        assert await asyncio.to_thread(store.beats.acquire, timeout=PROMPT)
    await end_tasks(beating)
    assert told == [("a", threading.get_ident())]


async def test_a_lease_that_was_dropped_meanwhile_is_not_lost() -> None:
    """Its job has ended: the store no longer knows the lease, as it should."""
    store = Store()
    told: list[Lease] = []
    heartbeat = store.heartbeat(on_lost=told.append)
    store.lost = {"a"}
    lease = Lease("a", "q", "1")
    heartbeat.hold(lease)
    beating = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0)
    assert store.beats.acquire(timeout=PROMPT)  # the loop is blocked: what the beat found out waits
    assert store.beats.acquire(timeout=PROMPT)
    heartbeat.drop(lease)
    await asyncio.sleep(0)
    await end_tasks(beating)
    assert told == []


async def test_trouble_is_told_on_the_loop() -> None:
    store, events, back = Store(), Events(), asyncio.Event()
    seen: list[tuple[type[Event], int]] = []
    events.subscribe(Event, lambda event: seen.append((type(event), threading.get_ident())))
    events.subscribe(StoreBack, lambda _: back.set())
    store.troubles = 1
    beating = asyncio.create_task(store.heartbeat(outage=Outage(events)).run())
    await asyncio.wait_for(back.wait(), PROMPT)
    await end_tasks(beating)
    assert seen == [(StoreLost, threading.get_ident()), (StoreBack, threading.get_ident())]


async def test_a_heartbeat_that_breaks_does_not_break_unseen() -> None:
    def broken() -> Driver:
        raise ValueError("no driver")

    heartbeat = Store().heartbeat(open_driver=broken)
    with pytest.raises(ValueError, match="no driver"):
        await asyncio.wait_for(heartbeat.run(), PROMPT)
