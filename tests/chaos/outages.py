"""Servers that fall ill in the middle of a run, and what our processes owe when they do: while a server is away they
wait without being busy, once it is back they go on, and none of them has to be started anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import psutil
from msgspec.structs import replace

from core.tasks import end_tasks
from tests.chaos.app.orders import Order
from tests.chaos.ledger import What, read
from tests.chaos.publisher import Publisher
from tests.chaos.run import Size
from tests.chaos.scene import Scene

BROKER = "mosquitto"
WITHIN = 5.0
"""Seconds from a server's return until work goes on."""
MOST_BUSY = 0.1
"""Of one core's time, that a process may use while a server is away."""
SETTLED = 2.0
"""Seconds after which what was under way when a server fell ill is over."""
PATIENCE, BUSY_LOOP = 60.0, 0.5
"""The same two for the short form, which has to hold on a machine that is busy with other tests: it measures for three
seconds, in which all that was under way is still told for the first times that the server is away."""
MANY = 10
"""Faults that no short form has."""
AFTERMATH = 5.0
"""Seconds after its return in which what an outage has done may still come to light: leases that ran out meanwhile,
outcomes that wait to be told."""

_PAUSE = 1.0
"""Seconds between two outages at most."""
_LONG, _LONG_IDS = 4, "long"
"""Jobs that are under way all through an outage, and what their ids begin with."""
_MOST_OPEN, _PORTION, _EVERY = 300, 20, 0.1
"""Orders that are open at most; how many come at once, by each way; and every how many seconds."""


@dataclass(frozen=True)
class Harm:
    server: str
    """BROKER, or the kind of the store."""
    what: str
    begin: Callable[[], object]
    end: Callable[[], object]
    seconds: float
    """How long it lasts."""
    at_most: bool = True
    """Whether that is the longest, or always so long."""
    is_away: bool = True
    """Whether the server serves nobody meanwhile."""

    @property
    def shows(self) -> What:
        """An entry of the ledger that tells that the server serves again."""
        return "handled" if self.server == BROKER else "done"

    def __str__(self) -> str:
        return f"{self.server} {self.what}"


class Where(Protocol):
    """Of a server, or of a proxy to it."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


async def hurt(scene: Scene, size: Size, harms: Sequence[Harm], broker: Where, *, device: Where | None = None) -> None:
    """Do these harms in turn to a fleet that has work to do; return once all of that is done.

    `broker` is where the router is to find it, `device` where messages are published, if not there too.
    """
    outages = Outages(scene, WITHIN if size.faults >= MANY else PATIENCE)
    async with fed(scene, broker, device or broker):
        for number in range(size.faults):
            if time.monotonic() > scene.until:
                break
            await outages.bring(harms[number % len(harms)])
    outages.tell()


class Outages:
    """One after the other."""

    def __init__(self, scene: Scene, within: float) -> None:
        self._scene = scene
        self._within = within
        self._slowest: dict[str, float] = defaultdict(float)
        self._busiest = 0.0
        self._numbers = count(1)

    async def bring(self, harm: Harm) -> None:
        """Return when work goes on."""
        self._scene.count(str(harm))
        if harm.is_away:  # of others, somebody may well miss a beat while the rest goes on
            await self._scene.dispatch([self._long_order(harm) for _ in range(_LONG)])
        await self._scene.moment(_PAUSE)
        begun = time.monotonic()
        settled = asyncio.create_task(self._settled(harm))
        await asyncio.to_thread(harm.begin)
        try:
            await asyncio.sleep(self._scene.random.uniform(0.0, harm.seconds) if harm.at_most else harm.seconds)
            if harm.is_away and settled.done():  # before the end, as work may go on before that is known here
                self._judge_use(harm, *settled.result())
        finally:
            await asyncio.to_thread(harm.end)
            returned = time.monotonic()
            await end_tasks(settled)
        spans = self._scene.broker_outages if harm.server == BROKER else self._scene.outages
        spans.append((begun, returned + AFTERMATH))
        await self._judge_return(harm, returned)

    def _long_order(self, harm: Harm) -> Order:
        """Of a job that runs on when its server is back: nobody else is to take it up."""
        return Order(f"{_LONG_IDS}{next(self._numbers)}", seconds=harm.seconds + self._scene.random.uniform(1.0, 3.0))

    def tell(self) -> None:
        """Note what was measured, and what was taken from an owner who lived on."""
        if self._within < PATIENCE:
            self._find_taken_over()
        slowest = ", ".join(f"{harm} {took:.1f} s" for harm, took in sorted(self._slowest.items()))
        self._scene.note(f"Work went on within: {slowest}. At most {self._busiest:.0%} of a core meanwhile.")

    def _find_taken_over(self) -> None:
        entries = read(self._scene.entries)
        tries = Counter(entry.id for entry in entries if entry.what == "started" and entry.id.startswith(_LONG_IDS))
        for order, number in tries.items():
            if number > 1:
                self._scene.find(
                    "taken over", order, f"its job was under way in an outage, and was begun {number} times"
                )

    async def _settled(self, harm: Harm) -> tuple[float, dict[int, float]]:
        """When that was, and the CPU time that each process which has nothing to do then had used so far."""
        await asyncio.sleep(SETTLED)
        fleet = self._scene.fleet
        idle = fleet.of_role("router") if harm.server == BROKER else fleet.members
        return time.monotonic(), {member.pid: _cpu_time(member.pid) for member in idle}

    def _judge_use(self, harm: Harm, since: float, before: dict[int, float]) -> None:
        seconds = time.monotonic() - since
        if seconds < SETTLED:  # so short, a single look counts for much
            return
        for pid, used in before.items():
            share = (_cpu_time(pid) - used) / seconds
            self._busiest = max(self._busiest, share)
            if share > (MOST_BUSY if self._within < PATIENCE else BUSY_LOOP):
                self._scene.find("busy", str(harm), f"process {pid} used {share:.0%} of a core, for {seconds:.1f} s")

    async def _judge_return(self, harm: Harm, returned: float) -> None:
        progress = self._scene.progress
        while progress.last[harm.shows] < returned and time.monotonic() < returned + PATIENCE:
            await asyncio.sleep(0.01)
            progress.look()
        took = time.monotonic() - returned
        self._slowest[str(harm)] = max(self._slowest[str(harm)], took)
        if took > self._within:
            self._scene.find("late", str(harm), f"{took:.1f} s after it, there was no {harm.shows!r} in the ledger yet")


def _cpu_time(pid: int) -> float:
    """Seconds, of a process with its children."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return float(sum(each.user + each.system for each in times))


@asynccontextmanager
async def fed(scene: Scene, broker: Where, device: Where) -> AsyncIterator[None]:
    """A fleet with work to do all the while, by dispatch and by message; in the end all of it is done."""
    async with fleet_at(scene, broker):
        publisher = Publisher(device.host, device.port, scene.ledger, saves_late=True)
        ways = {"messages": publisher.publish, "dispatches": scene.dispatch}
        feeding = [asyncio.create_task(_feed(scene, *each), name="feed") for each in ways.items()]
        try:
            await scene.fleet.working()
            yield
            for task in feeding:
                if task.done():
                    task.result()  # why it ended
        finally:
            await end_tasks(*feeding)
            await publisher.close()
            scene.sent |= publisher.sent
        await scene.until_all_done()


@asynccontextmanager
async def fleet_at(scene: Scene, broker: Where) -> AsyncIterator[None]:
    """Two workers and a router. In the end they have stopped: what the run has put up for them may go."""
    scene.fleet.start_worker(queues="chaos,processes")
    scene.fleet.start_worker()
    await scene.fleet.start_router(MQTT_BROKER=broker.host, MQTT_PORT=str(broker.port)).up()
    yield
    await scene.fleet.retire_all()


async def _feed(scene: Scene, name: str, way: Callable[[Sequence[Order]], Awaitable[None]]) -> None:
    """Each way has keys of its own: a message that its broker has may be stored later than what is dispatched now."""
    while True:
        await scene.until_open(_MOST_OPEN)
        await way([_with_key_of(name, order) for order in scene.mix.take(_PORTION)])
        await asyncio.sleep(_EVERY)


def _with_key_of(name: str, order: Order) -> Order:
    return replace(order, key=f"{order.key}-{name}") if order.key else order
