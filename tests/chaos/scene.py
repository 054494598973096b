"""What a run plays on: its store, its processes, its ledger, and the means to bring work and to wait for its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from core.application import Application
from core.errors import QueueUnavailableError
from core.queue.envelope import read_envelope
from core.settings import load_settings
from tests.acceptance.program import ROOT, clean_environment
from tests.chaos.app.jobs.work import job_of
from tests.chaos.app.orders import QUEUES, Kind, Order
from tests.chaos.checker import Finding, Span
from tests.chaos.fleet import Fleet, Member
from tests.chaos.ledger import Ledger
from tests.chaos.mix import ALL_KINDS, Mix, shares
from tests.chaos.progress import Progress
from tests.chaos.publisher import Publisher
from tests.chaos.run import Size
from tests.chaos.stores import Store
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.mqtt_wire import accepts

PATIENCE = 90.0
"""Seconds without any progress after which a run has failed, unless it says otherwise."""
LEASE = 3.0
"""Seconds; short, that a run need not wait long for a rescue, and long enough for a machine that is busy."""
UNIQUE_FOR = 3600.0
"""Seconds; longer than any run."""
MOST_OPEN = 1000
"""Orders that wait or run at the same time, so that harm comes to work of all kinds."""


class StalledError(Exception):
    """Nothing has moved for as long as one has patience."""


class Scene:
    def __init__(self, directory: Path, store: Store, broker: MosquittoProcess | None, seed: str, until: float) -> None:
        self.directory = directory
        self.store = store
        self.until = until
        """When the time of the run is over, on the monotonic clock."""
        self.random = Random(seed)
        self.faults: Counter[str] = Counter()
        self.found: list[Finding] = []
        self.notes: list[str] = []
        self.sent: set[str] = set()
        """Ids that may have arrived without being accepted."""
        self.outages: list[Span] = []
        """Of the store."""
        self.broker_outages: list[Span] = []
        self.answers_lost: list[Span] = []
        self.mix = self.mix_of(ALL_KINDS)
        """What `rounds` and `dispatch` bring; a run may put another in its place."""
        self.env = self._environment(broker)
        """Of the processes of the fleet; a run may change it before it starts any."""
        self.patience = PATIENCE
        self._broker = broker
        self.hold = directory / "hold"
        """As long as this file is there, orders of the kind "held" do not end."""
        entries = directory / "ledger"
        entries.mkdir()
        self.ledger = Ledger(entries)
        self.progress = Progress(entries)
        self.fleet = Fleet(directory, self.env, self.ledger, self.progress, Random(f"{seed} fleet"), self.faults)
        self.app = Application(_settings(store))
        """Connected to the store, whatever the fleet's processes are told."""

    @property
    def broker(self) -> MosquittoProcess:
        assert self._broker, "the run has to ask for it: Run(broker=True)"
        return self._broker

    @property
    def entries(self) -> Path:
        return self.directory / "ledger"

    def mix_of(
        self, kinds: dict[Kind, int], *, longest: float = 0.05, longest_delay: float = 1.0, once: float = 1 / 16
    ) -> Mix:
        return Mix(self.random, kinds, longest=longest, longest_delay=longest_delay, once=once)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────

    def find(self, rule: str, about: str, story: str) -> None:
        self.found.append(Finding(rule, about, story))

    def count(self, fault: str) -> None:
        """One more fault of a kind; the fleet counts its own."""
        self.faults[fault] += 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    # ── bringing work ────────────────────────────────────────────────────────────────────────────────

    async def rounds(self, size: Size) -> AsyncIterator[list[Order]]:
        """The orders to bring before each fault. Ends early, but not before the first, when the run's time is over."""
        for number in shares(self.random, size.jobs, size.faults):
            yield self.mix.take(number)
            await self.until_open(MOST_OPEN)
            if time.monotonic() > self.until:
                return

    async def dispatch(self, orders: Sequence[Order]) -> None:
        """Dispatch them from here, in order. Where the store is away, some are only `sent`."""
        for begin in range(0, len(orders), MOST_OPEN):
            await self.until_open(MOST_OPEN)
            await self._dispatch(orders[begin : begin + MOST_OPEN])

    async def _dispatch(self, orders: Sequence[Order]) -> None:
        in_order = [order for order in orders if not order.delay and not order.once]
        singly = [order for order in orders if order.delay or order.once]
        await asyncio.gather(self._bulk(in_order), *map(self._push, singly))

    async def _bulk(self, orders: Sequence[Order]) -> None:
        jobs = [job_of(order) for order in orders]
        self.sent.update(order.id for order in orders)
        with suppress(QueueUnavailableError):  # those that were stored have their ids all the same
            await self.app.queues.bulk(jobs)
        for order, job in zip(orders, jobs, strict=True):
            if hasattr(job, "job_id"):
                self.ledger.accept(order)

    async def _push(self, order: Order) -> None:
        self.sent.add(order.id)
        unique: dict[str, Any] = {"unique_for": UNIQUE_FOR, "unique_by": order.id} if order.once else {}
        for _ in range(2 if order.once else 1):
            with suppress(QueueUnavailableError):
                await self.app.queues.push(job_of(order), delay=order.delay, **unique)
                self.ledger.accept(order)

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        """Publishes orders to the broker, and writes down what that acknowledged."""
        publisher = Publisher(self.broker.host, self.broker.port, self.ledger)
        try:
            yield publisher
        finally:
            await publisher.close()
            self.sent |= publisher.sent

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────

    async def moment(self, longest: float) -> None:
        """Wait for a random while."""
        await asyncio.sleep(self.random.uniform(0.0, longest))

    async def until_open(self, most: int) -> None:
        """Wait until no more than so many orders are open."""

        async def is_so() -> bool:
            return len(self.progress.open) <= most

        await self._until(is_so, f"{most} open orders")

    async def until_all_done(self) -> None:
        """Wait until every order has its end, and the store holds no more jobs."""
        await self._until(self._is_all_done, "the end of all orders", is_hopeless=self._is_empty)

    async def _is_all_done(self) -> bool:
        if any(not fails for fails in self.progress.open.values()) or await self.left_over():
            return False
        return not self.progress.open or self.progress.open.keys() <= set(await self.given_up())

    async def _is_empty(self) -> bool:
        """Whether the store holds no job, for whose rescue one would have to wait."""
        return not await self.left_over()

    async def _until(
        self,
        condition: Callable[[], Awaitable[bool]],
        what: str,
        *,
        is_hopeless: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Wait for a condition, while anything moves. Where it `is_hopeless`, half the patience is enough."""
        seen, at = -1, time.monotonic()
        while True:
            self.progress.look()
            if await condition():
                return
            if self.progress.entries != seen:
                seen, at = self.progress.entries, time.monotonic()
            still = time.monotonic() - at
            if still > self.patience or (is_hopeless and still > self.patience / 2 and await is_hopeless()):
                left = list(self.progress.open)[:10]
                raise StalledError(f"nothing moved for {still:.0f} s while waiting for {what}; open: {left}")
            await asyncio.sleep(0.01)

    async def until_started(self, members: Sequence[Member], tries: int) -> None:
        """Wait until these workers together have begun so many tries."""

        async def is_so() -> bool:
            return sum(self.progress.started.get(each.pid, 0) for each in members) >= tries

        await self._until(is_so, f"{tries} tries in {', '.join(map(str, members))}")

    # ── the store ────────────────────────────────────────────────────────────────────────────────────

    async def finish(self) -> None:
        """Have done what processes left half done when they ended: failures that are not in failed_jobs yet."""
        await self.app.queues.driver().rescue(QUEUES)

    async def left_over(self) -> int:
        """How many jobs the store holds."""
        return sum([await self.app.queues.size(queue) for queue in QUEUES])

    async def given_up(self) -> list[str]:
        """The orders whose jobs have rows in failed_jobs."""
        rows = await self.app.failures.rows()
        return [_order_of(row.payload) for row in rows]

    def close(self) -> None:
        """Whatever has happened, nothing is left behind."""
        self.fleet.close()
        self.ledger.close()
        if self._broker:  # ends the router's session
            accepts(self._broker.host, self._broker.port, self.env["MQTT_CLIENT_ID"])

    def _environment(self, broker: MosquittoProcess | None) -> dict[str, str]:
        at_broker = {"MQTT_BROKER": broker.host, "MQTT_PORT": str(broker.port)} if broker else {}
        return clean_environment() | {
            "APP_PACKAGE": "tests.chaos.app",
            "PYTHONPATH": str(ROOT),
            "LEDGER": str(self.directory / "ledger"),
            "HOLD": str(self.directory / "hold"),
            "LOG_LEVEL": "WARNING",
            "MQTT_CLIENT_ID": f"chaos-{self.directory.name}",
            "MQTT_RECONNECT_MIN": "0.1",
            "MQTT_RECONNECT_MAX": "1",
            "QUEUE_LEASE": str(LEASE),
            "QUEUE_PROCESSES": "1",
            **at_broker,
            **self.store.settings,
        }


def _settings(store: Store) -> Any:
    sections: dict[str, dict[str, str]] = {"queue": {}, "database": {}, "redis": {}}
    for name, value in store.settings.items():
        section, _, field = name.partition("_")
        sections[section.lower()][field.lower()] = value
    return load_settings(None, **sections)


def _order_of(payload: bytes) -> str:
    return str(msgspec.json.decode(read_envelope(payload).data)["order"])
