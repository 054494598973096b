"""The connection between router and broker may be cut at any packet of a router's life, and no message is lost or
becomes more than it may: before the packet, in the middle of it, and right behind it. Behind it, what the packet asks
for happens, and whoever sent it is told nothing but that the connection is lost.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Literal, NamedTuple, TypeAlias, get_args

import pytest

from tests.chaos.app.orders import Order
from tests.chaos.ledger import read
from tests.chaos.mqtt_packets import name_of, packets
from tests.chaos.play import play
from tests.chaos.proxy import Piece, Proxy
from tests.chaos.publisher import Publisher
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene
from tests.chaos.stores import ChaosServers, missing

pytestmark = [
    pytest.mark.skipif("TEST_REDIS_URL" in os.environ, reason="played on servers of its own"),
    pytest.mark.skipif(missing("mosquitto") is not None, reason="mosquitto is not on PATH"),
]

Place: TypeAlias = Literal["before", "in the middle of", "behind"]

PLACES: tuple[Place, ...] = get_args(Place)
PACKETS = {f"{kind} of the router" for kind in ("CONNECT", "SUBSCRIBE", "PUBLISH", "PUBACK")} | {
    f"{kind} of the broker" for kind in ("CONNACK", "SUBACK", "PUBLISH", "PUBACK")
}
PATIENCE = 30.0
"""Seconds without progress, on a machine that is busy."""
RECONNECT_AFTER = 0.02
"""Seconds, as there is much to be cut."""


class Cut(NamedTuple):
    place: Place
    packet: str
    number: int
    """Which packet of that name, counted from 1."""

    def __str__(self) -> str:
        return f"cut {self.place} {self.packet} number {self.number}"


class Wire:
    """The packets that go by; a judge that cuts once."""

    def __init__(self, cut: Cut | None) -> None:
        self.passed: Counter[str] = Counter()
        """How many of each name have come through as a whole, on the connection that there is now."""
        self.cut_at: float | None = None
        """Monotonic."""
        self.delivered = 0
        """Messages that have reached the router as a whole, on all connections."""
        self._cut = cut
        self._begun: Counter[str] = Counter()

    def __call__(self, piece: Piece) -> int | None:
        name = name_of(piece)
        self._begun[name] += 1
        if self._cut and (name, self._begun[name]) == (self._cut.packet, self._cut.number):
            self.cut_at = time.monotonic()
            self.passed = Counter()
            self.delivered += self._cut.place == "behind" and name == "PUBLISH of the broker"
            return {"before": 0, "in the middle of": len(piece.data) // 2, "behind": len(piece.data)}[self._cut.place]
        if name == "CONNECT of the router":
            self.passed = Counter()
        self.passed[name] += 1
        self.delivered += name == "PUBLISH of the broker"
        return None

    @property
    def is_quiet(self) -> bool:
        """Whether the router is subscribed, and all that was published is acknowledged. What has waited for it at the
        broker came before the SUBACK; what it publishes for a message, before that message's PUBACK."""
        passed = self.passed
        return (
            passed["SUBACK of the broker"] > 0
            and passed["PUBLISH of the broker"] == passed["PUBACK of the router"]
            and passed["PUBLISH of the router"] == passed["PUBACK of the broker"]
        )


class Stage:
    """A router that has to connect again and again, and each time finds the same messages waiting for it."""

    def __init__(self, scene: Scene, proxy: Proxy, publisher: Publisher) -> None:
        self._scene = scene
        self._proxy = proxy
        self._publisher = publisher
        self._played = 0
        self.delivered = 0
        """Messages that have reached the router as a whole."""

    async def perform(self, cut: Cut | None = None) -> Counter[str]:
        """Return what went by, once all orders are done and the broker has no message left."""
        wire = Wire(cut)
        self._proxy.refuse()
        self._proxy.judge_by(wire)
        await self._publisher.publish(self._orders())
        self._proxy.pass_on()
        await self._until_quiet(wire)
        await self._scene.until_all_done()
        self.delivered += wire.delivered
        assert (wire.cut_at is None) == (cut is None), f"there was no {cut}"
        if cut and wire.cut_at:
            self._scene.count(f"cut {cut.place} {cut.packet}")
            self._scene.broker_outages.append((wire.cut_at, time.monotonic()))
        return wire.passed

    async def _until_quiet(self, wire: Wire) -> None:
        async with asyncio.timeout(PATIENCE):
            while not wire.is_quiet:  # noqa: ASYNC110, the proxy judges in another thread
                await asyncio.sleep(0.01)

    def _orders(self) -> list[Order]:
        self._played += 1
        number = self._played
        return [
            Order(f"plain{number}"),
            Order(f"first{number}", kind="keyed", key=f"key{number}"),
            Order(f"second{number}", kind="keyed", key=f"key{number}"),
            Order(f"relayed{number}", once=True, relayed=True),
        ]


@asynccontextmanager
async def _stage(scene: Scene) -> AsyncIterator[Stage]:
    with Proxy(scene.broker.host, scene.broker.port, split=packets) as proxy:
        scene.env |= {"MQTT_BROKER": proxy.host, "MQTT_PORT": str(proxy.port)}
        scene.env |= dict.fromkeys(("MQTT_RECONNECT_MIN", "MQTT_RECONNECT_MAX"), str(RECONNECT_AFTER))
        worker, router = scene.fleet.start_worker(), scene.fleet.start_router()
        await asyncio.gather(worker.up(), router.up())
        async with scene.publisher() as publisher:
            yield Stage(scene, proxy, publisher)
        await scene.fleet.retire_all()
        assert proxy.cuts == scene.faults.total()


def _run(cuts: Callable[[Counter[str]], Iterable[Cut]], patience: float = PATIENCE) -> Run:
    """Plays without a cut, and then once for each of the cuts that there are to be in what went by."""

    async def play(scene: Scene, size: Size) -> None:
        async with _stage(scene) as stage:
            whole = await stage.perform()
            assert whole.keys() == PACKETS
            scene.patience = patience
            for cut in cuts(whole):
                await stage.perform(cut)
            _find_handled_unasked(scene, stage.delivered)

    nothing = Size(jobs=0, faults=0)
    return Run(play, asked=nothing, short=nothing, share=0, broker=True, name="mqtt_cuts")


def _find_handled_unasked(scene: Scene, delivered: int) -> None:
    """Messages that the router has handled once more though the broker did not deliver them once more."""
    handled = sum(entry.what == "handled" for entry in read(scene.entries))
    if handled > delivered:
        scene.find("handled again", "messages", f"{delivered} were delivered, and {handled} handled")


def _every_cut(whole: Counter[str]) -> Iterator[Cut]:
    for packet, count in whole.items():
        for number, place in product(range(1, count + 1), PLACES):
            yield Cut(place, packet, number)


@pytest.mark.timeout(240)  # a machine that is busy with other tests takes its time for so many connections
async def test_the_connection_may_be_cut_at_every_packet(chaos_servers: ChaosServers) -> None:
    run = _run(_every_cut)
    outcome = await play(run, "redis", chaos_servers, run.short, seed="1", seconds=PATIENCE)
    assert not outcome.findings, str(outcome)
    assert outcome.faults.keys() == {f"cut {place} {packet}" for place, packet in product(PLACES, PACKETS)}
    assert outcome.verdict.done_again, "no message came again, though its PUBACK was cut off"


async def test_a_message_that_is_acknowledged_too_early_is_missed(chaos_servers: ChaosServers) -> None:
    """What the router was about to publish for it is lost with the connection."""
    run = _run(lambda _: [Cut("before", "PUBLISH of the router", 1)], patience=6.0)
    outcome = await play(run, "redis", chaos_servers, run.short, seed="1", seconds=PATIENCE, mutation="early_ack")
    assert ("lost", "relayed2") in {(finding.rule, finding.about) for finding in outcome.findings}, str(outcome)
    shutil.rmtree(outcome.directory)
