"""Workers whose clocks are ahead, behind or jump, beside one whose clock is right, while some of them are killed.

Leases, due times and expiry live by the store's clock: a worker whose own is wrong neither takes what another still
works at, nor leaves what is due.

Not on SQLite, whose clock is, by its design, that of the one machine on which all its processes are: there, a worker
with a clock of its own would not be another worker but another store.
"""

from __future__ import annotations

import os

from tests.acceptance.program import ROOT
from tests.chaos.fleet import CLOCK, Member
from tests.chaos.run import Run, Size
from tests.chaos.scene import LEASE, Scene

CLOCKS = ("600", "-600", "jumps", "0")
"""Seconds ahead."""
FOLDER = ROOT / "tests" / "chaos" / "clock"


async def play(scene: Scene, size: Size) -> None:
    # Some take longer than a lease, which has to be renewed meanwhile.
    scene.mix = scene.mix_of(
        {"plain": 80, "thread": 10, "doomed": 5, "keyed": 5}, longest=2 * LEASE, longest_delay=2 * LEASE
    )
    for clock in CLOCKS:
        start_with_clock(scene, clock)
    async for orders in scene.rounds(size):
        await scene.dispatch(orders)
        victim = await scene.fleet.working()
        await scene.moment(0.5)
        scene.fleet.replace(victim)


def start_with_clock(scene: Scene, clock: str) -> Member:
    path = os.pathsep.join([str(FOLDER), scene.env["PYTHONPATH"]])
    return scene.fleet.start_worker("--concurrency", "50", PYTHONPATH=path, **{CLOCK: clock})


RUN = Run(
    play,
    asked=Size(jobs=5_000, faults=40),
    short=Size(jobs=100, faults=2),
    share=1,
    stores=("redis", "postgresql", "mariadb"),
)
