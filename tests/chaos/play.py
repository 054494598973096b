"""Plays one run on one store, from an empty stage to the verdict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UnavailableError
from tests.chaos.checker import Finding, Verdict, check
from tests.chaos.ledger import read
from tests.chaos.mutations import VARIABLE
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene, StalledError
from tests.chaos.stores import ChaosServers

_LITTLE_PATIENCE = 12.0
"""Seconds without progress after which a run has failed that is to fail; half of it where nothing is left in the store,
which is still more than mutations.PAUSE, or a start."""
_SEEN_AT_ONCE = frozenset({"unexplained", "doubled", "miscounted", "overlap", "disorder"})
"""The rules whose breach nothing explains that is written later, outages apart: those are told when they are over."""
_GLANCE = 0.5
"""Seconds between two looks for such a breach."""


@dataclass
class Outcome:
    run: str
    store: str
    seed: str
    asked: Size
    """By the run, whatever the time that it had."""
    verdict: Verdict
    seconds: float
    directory: Path
    """Its ledger and logs; kept where there is a finding."""
    faults: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    """The checker's, and the run's own."""
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        about = f"{self.run} on {self.store}, --seed {self.seed}: {self.verdict.counts}; {faults}; {self.seconds:.1f} s"
        where = [f"ledger and logs: {self.directory}"] if self.findings else []
        return "\n".join([about, *self.notes, *map(str, self.findings[:20]), *where])


async def play(
    run: Run,
    store: str,
    servers: ChaosServers,
    size: Size,
    *,
    seed: str,
    seconds: float,
    mutation: str | None = None,
    limit: float | None = None,
    until_broken: AbstractSet[str] = frozenset(),
) -> Outcome:
    """`seconds` is for how long it may bring work and do harm; then all must come to its end. `mutation` is a promise
    that the processes break (mutations.py): the run is to find that, and does not wait long for what never comes.
    `limit` is for how many seconds it is played, all in all: where a promise is broken, some may go on for ever.
    `until_broken` are rules of the checker: as soon as one of them is found broken, the time is over.

    Never raises for what the run shows: that is a finding.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{run.name}-{store}-"))
    begun = time.monotonic()
    async with servers.store(store) as opened, AsyncExitStack() as stack:
        broker = stack.enter_context(servers.broker(own=run.waits)) if run.broker else None
        scene = Scene(directory, opened, broker, f"{seed} {run.name}", begun + seconds)
        if mutation is not None:
            scene.env[VARIABLE] = mutation
            scene.patience = _LITTLE_PATIENCE
        verdict = await _played(run, scene, size, limit=limit, until_broken=until_broken & _SEEN_AT_ONCE)
    outcome = Outcome(
        run.name,
        store,
        seed,
        run.asked,
        verdict,
        time.monotonic() - begun,
        directory,
        scene.faults,
        [*verdict.findings, *scene.found],
        scene.notes,
    )
    if not outcome.findings:
        shutil.rmtree(directory)
    return outcome


async def _played(
    run: Run, scene: Scene, size: Size, *, limit: float | None, until_broken: AbstractSet[str]
) -> Verdict:
    rows: set[str] | None = None
    async with scene.app:
        try:
            async with asyncio.timeout(limit) as time_limit, _watching(scene, until_broken, time_limit):
                await run.play(scene, size)
                await scene.until_all_done()
            await scene.fleet.retire_all()
            await scene.finish()
            rows = set(await scene.given_up())
            left = await scene.left_over()
            if left:
                scene.find("left over", scene.store.kind, f"the store holds {left} jobs")
        except StalledError as error:
            scene.find("stalled", run.name, str(error))
            with suppress(UnavailableError):
                rows = set(await scene.given_up())
        except Exception:
            scene.find("broke off", run.name, traceback.format_exc())
        finally:
            scene.close()
    scene.found.extend(scene.fleet.findings())
    return _verdict(scene, rows)


@asynccontextmanager
async def _watching(scene: Scene, rules: AbstractSet[str], time_limit: asyncio.Timeout) -> AsyncIterator[None]:
    """The time is over as soon as one of the rules is found broken, by two looks in a row: while one is taken, some
    files of the ledger are read earlier than others."""

    async def watch() -> None:
        before: set[Finding] = set()
        while not before & (found := {each for each in _verdict(scene, None).findings if each.rule in rules}):
            before = found
            await asyncio.sleep(_GLANCE)
        time_limit.reschedule(asyncio.get_running_loop().time())

    watching = asyncio.create_task(watch(), name="watch") if rules else None
    try:
        yield
    finally:
        if watching:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


def _verdict(scene: Scene, rows: set[str] | None) -> Verdict:
    return check(
        read(scene.entries),
        rows=rows,
        sent=scene.sent,
        outages=scene.outages,
        broker_outages=scene.broker_outages,
        answers_lost=scene.answers_lost,
    )
