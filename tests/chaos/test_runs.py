"""The short form of every run, on every store. The long form: scripts/chaos."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.play import play
from tests.chaos.run import Run, all_runs
from tests.chaos.stores import ChaosServers, missing

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
    for name, run in all_runs().items():
        for store in run.stores:
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
