"""What a run is. One file of tests/chaos/runs/ for each, with one `RUN` in it:

    async def play(scene: Scene, size: Size) -> None:
        workers = [scene.fleet.start_worker() for _ in range(4)]
        async for orders in scene.rounds(size):     # those to bring before each fault; ends when the time is over
            await scene.dispatch(orders)            # waits while too many are open
            victim = await scene.fleet.working()    # that has begun to work; `up()` waits for a given one
            await scene.moment(0.05)
            scene.fleet.replace(victim)

    RUN = Run(play, asked=Size(jobs=50_000, faults=200), short=Size(jobs=300, faults=5), share=4)

`play` starts processes, brings work and does harm. Then, without its doing, all work must come to an end, the processes
must stop when asked to, the checker goes through the ledger, and the store must be empty.

What else a run has to say: `scene.find(rule, about, story)` adds a finding, `scene.count("redis killed")` a fault,
`scene.note(...)` a line beside the table. The checker is told `scene.outages`, `scene.broker_outages`,
`scene.answers_lost` and `scene.sent` (see `check`).
All choices come from `scene.random`, so that the seed repeats them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tests.chaos.scene import Scene

STORES = ("redis", "sqlite", "postgresql", "mariadb")


@dataclass(frozen=True)
class Size:
    jobs: int
    faults: int
    lasting: float = 0.0
    """Seconds that one fault lasts, where it does."""

    def scaled(self, factor: float) -> Size:
        jobs, faults = max(1, round(self.jobs * factor)), max(1, round(self.faults * factor))
        return Size(jobs, faults, self.lasting * factor)


Play: TypeAlias = "Callable[[Scene, Size], Awaitable[None]]"


@dataclass(frozen=True)
class Run:
    play: Play
    asked: Size
    """On each store, in the long form, as far as its time allows."""
    short: Size
    """On each store, within the test suite: a few seconds."""
    share: float
    """Of the time of the long form, in proportion to the other runs'."""
    stores: tuple[str, ...] = STORES
    broker: bool = False
    """Whether it needs a broker: mosquitto, as `scene.broker`."""
    lacks: Callable[[], str | None] = lambda: None
    """Why it cannot be played here, whatever the store."""
    waits: bool = False
    """Whether it spends its time waiting, so that the long form plays it on all stores at the same time."""
    name: str = ""
    """That of its file."""


def all_runs() -> dict[str, Run]:
    """By name."""
    files = sorted((Path(__file__).parent / "runs").glob("[a-z]*.py"))
    return {file.stem: _load(file.stem) for file in files}


def _load(name: str) -> Run:
    run: Run = import_module(f"tests.chaos.runs.{name}").RUN
    return replace(run, name=name)
