"""The short form of every run, each on one store, the stores in turn. The long form, on all of them: scripts/chaos."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.broken_promises import BROKEN_PROMISES, BrokenPromise, put_to_trial
from tests.chaos.play import play
from tests.chaos.run import Run, all_runs
from tests.chaos.stores import ChaosServers, lack_of

pytestmark = pytest.mark.skipif(
    "TEST_REDIS_URL" in os.environ, reason="played on servers of its own, whatever servers the other tests are given"
)

SECONDS = 30.0
"""After which a run brings no more work. On a machine that is not very busy it has long ended by then."""


def _played_on() -> Iterator[Any]:
    for number, (name, run) in enumerate(all_runs().items()):
        store = run.stores[number % len(run.stores)]
        yield pytest.param(run, store, id=f"{name}-{store}", marks=_marks(run, store))


def _marks(run: Run, store: str) -> list[pytest.MarkDecorator]:
    reason = lack_of(run, store)
    return [pytest.mark.skip(reason=reason)] if reason else []


@pytest.mark.timeout(240)  # a machine that is busy with other tests starts processes slowly, of which there are many
@pytest.mark.parametrize(("run", "store"), list(_played_on()))
async def test_all_promises_are_kept(run: Run, store: str, chaos_servers: ChaosServers) -> None:
    seed = f"{random.getrandbits(32):x}"
    outcome = await play(run, store, chaos_servers, run.short, seed=seed, seconds=SECONDS)
    assert not outcome.findings, str(outcome)
    assert outcome.faults.total() > 0, str(outcome)


TELLING = {"early_ack", "no_fencing", "two_commands", "late_count"}
"""Of all promises that are broken here, those whose breach is tried in every run of the suite. test_crash_points has
some of them on every store."""


def _broken_here() -> Iterator[Any]:
    for promise in BROKEN_PROMISES:
        if promise.mutation in TELLING:
            marks = _marks(all_runs()[promise.run], promise.store)
            yield pytest.param(promise, id=f"{promise.run}-{promise.mutation}", marks=marks)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("promise", list(_broken_here()))
async def test_a_broken_promise_is_noticed(promise: BrokenPromise, chaos_servers: ChaosServers) -> None:
    trial = await put_to_trial(promise, chaos_servers, seed="1")
    assert trial.is_noticed, f"{trial}\n{trial.outcome}"


def test_every_run_is_put_to_trial() -> None:
    assert {promise.run for promise in BROKEN_PROMISES} == all_runs().keys()
