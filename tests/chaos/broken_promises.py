"""For each run, a promise that its processes break, and what the run has to find then.

`scripts/chaos --broken` plays all of them, the test suite those that are most telling (test_runs.py).
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from tests.chaos.play import Outcome, play
from tests.chaos.run import Size, all_runs
from tests.chaos.stores import ChaosServers

_SECONDS = 30.0
"""After which a run brings no more work."""


class BrokenPromise(NamedTuple):
    run: str
    store: str
    mutation: str
    """See mutations.py."""
    rules: set[str]
    """One of which is found: rules of checker.py, or of the run's own."""
    size: Size
    limit: float = 120.0
    """Seconds after which it is broken off, as it may go on for ever."""


BROKEN_PROMISES = [
    BrokenPromise("answers_lost", "postgresql", "push_anew", {"unexplained"}, Size(jobs=4000, faults=20)),
    BrokenPromise("clocks_wrong", "redis", "own_clock", {"lost"}, Size(jobs=200, faults=4)),
    BrokenPromise("idle_recovery", "postgresql", "no_rescue", {"stalled"}, Size(jobs=20, faults=3)),
    BrokenPromise(
        "machine_suspended",
        "redis",
        "no_fencing",
        {"overlap", "unexplained"},
        Size(jobs=20, faults=2, lasting=6.0),
        30.0,
    ),
    BrokenPromise("mixed_versions", "postgresql", "one_version", {"given up"}, Size(jobs=200, faults=4)),
    BrokenPromise("redis_short_of_room", "redis", "careless_push", {"lost"}, Size(jobs=0, faults=4, lasting=3.0)),
    BrokenPromise("router_killed", "redis", "early_ack", {"lost"}, Size(jobs=800, faults=3)),
    BrokenPromise("router_killed", "sqlite", "no_order", {"disorder"}, Size(jobs=1000, faults=2)),
    BrokenPromise("router_killed", "mariadb", "no_uniqueness", {"doubled"}, Size(jobs=1000, faults=2)),
    BrokenPromise("servers_cut_off", "postgresql", "careless_push", {"lost"}, Size(jobs=0, faults=6, lasting=5.0)),
    BrokenPromise("servers_frozen", "redis", "impatient_rescue", {"taken over"}, Size(jobs=0, faults=10, lasting=5.0)),
    BrokenPromise("servers_killed", "mariadb", "careless_push", {"lost"}, Size(jobs=0, faults=4, lasting=4.0)),
    BrokenPromise("soak", "sqlite", "leak", {"growth"}, Size(jobs=300, faults=1)),
    BrokenPromise("sqlite_out_of_use", "sqlite", "careless_push", {"lost"}, Size(jobs=0, faults=3, lasting=20.0)),
    BrokenPromise("workers_frozen", "redis", "blind_start", {"unexplained"}, Size(jobs=1000, faults=6)),
    BrokenPromise("workers_killed", "postgresql", "two_commands", {"lost"}, Size(jobs=400, faults=14)),
    BrokenPromise("workers_killed", "mariadb", "late_count", {"miscounted"}, Size(jobs=300, faults=8)),
    BrokenPromise("soak", "redis", "no_hook", {"untold"}, Size(jobs=400, faults=1)),
    BrokenPromise("workers_stopped", "redis", "early_release", {"overlap"}, Size(jobs=200, faults=3)),
]


@dataclass(frozen=True)
class Trial:
    """What came of a run whose processes broke a promise."""

    promise: BrokenPromise
    outcome: Outcome

    @property
    def is_noticed(self) -> bool:
        """Of a run that was broken off before its end, nobody knows what would have been lost."""
        found = self.found
        return bool(self.promise.rules & (found.keys() - ({"lost"} if "broke off" in found else set())))

    @property
    def found(self) -> Counter[str]:
        """Findings, by their rules."""
        return Counter(finding.rule for finding in self.outcome.findings)

    def __str__(self) -> str:
        verdict = "is noticed" if self.is_noticed else f"IS NOT NOTICED, there is none of {self.promise.rules}"
        run, store, mutation, *_ = self.promise
        return f"{run} on {store}: {mutation} {verdict}; {dict(self.found)}; {self.outcome.seconds:.1f} s"


async def put_to_trial(promise: BrokenPromise, servers: ChaosServers, seed: str) -> Trial:
    run = all_runs()[promise.run]
    outcome = await play(
        run,
        promise.store,
        servers,
        promise.size,
        seed=seed,
        seconds=_SECONDS,
        mutation=promise.mutation,
        limit=promise.limit,
        until_broken=promise.rules,
    )
    trial = Trial(promise, outcome)
    if trial.is_noticed:
        shutil.rmtree(outcome.directory)
    return trial
