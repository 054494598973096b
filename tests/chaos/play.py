"""Plays one run on one store, from an empty stage to the verdict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import traceback
from collections import Counter
from contextlib import AsyncExitStack, suppress
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
"""Seconds without progress after which a run has failed that is to fail."""


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
) -> Outcome:
    """`seconds` is for how long it may bring work and do harm; then all must come to its end. `mutation` is a promise
    that the processes break (mutations.py): the run is to find that, and does not wait long for what never comes.
    `limit` is for how many seconds it is played, all in all: where a promise is broken, some may go on for ever.

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
        verdict = await _played(run, scene, size, limit=limit)
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


async def _played(run: Run, scene: Scene, size: Size, *, limit: float | None) -> Verdict:
    rows: set[str] | None = None
    async with scene.app:
        try:
            async with asyncio.timeout(limit):
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
    return check(
        read(scene.entries),
        rows=rows,
        sent=scene.sent,
        outages=scene.outages,
        broker_outages=scene.broker_outages,
        answers_lost=scene.answers_lost,
    )
