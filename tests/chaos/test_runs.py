"""The short form of every run, each on one store, the stores in turn. The long form, on all of them: scripts/chaos."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.play import play
from tests.chaos.run import Run, Size, all_runs
from tests.chaos.stores import ChaosServers, missing

pytestmark = pytest.mark.skipif(
    "TEST_REDIS_URL" in os.environ, reason="played on servers of its own, whatever servers the other tests are given"
)

SECONDS = 30.0
"""After which a run brings no more work. On a machine that is not very busy it has long ended by then."""


@pytest.fixture(scope="session")
def chaos_servers() -> Iterator[ChaosServers]:
    servers = ChaosServers()
    try:
        yield servers
    finally:
        servers.close()


def _played_on() -> Iterator[Any]:
    for number, (name, run) in enumerate(all_runs().items()):
        store = run.stores[number % len(run.stores)]
        reason = missing(store) or (run.broker and missing("mosquitto")) or run.lacks()
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        yield pytest.param(run, store, id=f"{name}-{store}", marks=marks)


@pytest.mark.timeout(240)  # a machine that is busy with other tests starts processes slowly, of which there are many
@pytest.mark.parametrize(("run", "store"), list(_played_on()))
async def test_all_promises_are_kept(run: Run, store: str, chaos_servers: ChaosServers) -> None:
    seed = f"{random.getrandbits(32):x}"
    outcome = await play(run, store, chaos_servers, run.short, seed=seed, seconds=SECONDS)
    assert not outcome.findings, str(outcome)
    assert outcome.faults.total() > 0, str(outcome)


BROKEN_PROMISES = [
    ("workers_killed", Size(jobs=600, faults=15), "postgresql", "two_commands", "lost"),
    ("router_killed", Size(jobs=3000, faults=8), "redis", "early_ack", "lost"),
    ("machine_suspended", Size(jobs=20, faults=2, lasting=6.0), "redis", "no_fencing", "overlap"),
]
"""A run on a store, a promise that its processes break, and what the checker is to find. test_crash_points has them on
every store, and tries that are counted late."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "size", "store", "mutation", "rule"), BROKEN_PROMISES)
async def test_a_broken_promise_is_found(
    name: str, size: Size, store: str, mutation: str, rule: str, chaos_servers: ChaosServers
) -> None:
    run = all_runs()[name]
    outcome = await play(run, store, chaos_servers, size, seed="1", seconds=SECONDS, mutation=mutation)
    assert rule in {finding.rule for finding in outcome.findings}, str(outcome)
    shutil.rmtree(outcome.directory)
