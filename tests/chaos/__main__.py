"""scripts/chaos: the long form of the runs."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from tests.chaos.broken_promises import BROKEN_PROMISES, put_to_trial
from tests.chaos.play import Outcome, play
from tests.chaos.results import report, trial_report
from tests.chaos.run import STORES, Run, all_runs
from tests.chaos.stores import ChaosServers, lack_of

ASKED_WITHIN = 20.0
"""Minutes from which on runs have the sizes that they ask for; in fewer, they are smaller. A machine that is slow, or
does other work, takes more to reach them."""
TO_AN_END = 6.0
"""Seconds that a run takes beside those in which it brings work and does harm."""
RESULTS = Path(__file__).parent / "RESULTS.md"
"""Written where all runs were played on all stores."""
TRIALS = Path(__file__).parent / "BROKEN.md"


def main() -> None:
    options = _options()
    with ChaosServers() as servers:
        is_good = _put_to_trial(options, servers) if options.broken else _play_runs(options, servers)
    sys.exit(0 if is_good else 1)


def _play_runs(options: argparse.Namespace, servers: ChaosServers) -> bool:
    begun = datetime.now(UTC)
    outcomes = asyncio.run(_play(_parts(options.run, options.store), options.minutes, options.seed, servers))
    findings = sum(len(each.findings) for each in outcomes)
    if results := _target(options, RESULTS):
        results.write_text(report(outcomes, begun=begun, command=_command(options)))
    print(f"{findings} findings; {results or 'no --results to write them into'}")
    return not findings


def _put_to_trial(options: argparse.Namespace, servers: ChaosServers) -> bool:
    """Play each run with a promise broken, and see whether it notices."""
    begun, trials = datetime.now(UTC), []
    parts = {(run.name, store) for run, store in _parts(options.run, options.store)}
    for promise in BROKEN_PROMISES:
        if (promise.run, promise.store) in parts:
            servers.start(promise.store)
            trials.append(asyncio.run(put_to_trial(promise, servers, options.seed)))
            print(trials[-1], flush=True)
    if results := _target(options, TRIALS):
        results.write_text(trial_report(trials, begun=begun, command=_command(options)))
    noticed = sum(trial.is_noticed for trial in trials)
    print(f"{noticed} of {len(trials)} noticed, of {len(BROKEN_PROMISES)} that there are")
    return 0 < noticed == len(trials)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/chaos", description="Runs that kill and freeze, and the check of each.")
    parser.add_argument("--minutes", type=float, default=ASKED_WITHIN, help="for all runs together; default: 20")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats the choices of an earlier time")
    parser.add_argument("--run", nargs="+", choices=all_runs(), help="default: all")
    parser.add_argument("--store", nargs="+", choices=STORES, help="default: all")
    parser.add_argument("--broken", action="store_true", help="break promises, and see that runs notice")
    parser.add_argument(
        "--results", type=Path, help="the file to write; with --run or --store, none unless it is given"
    )
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error("--minutes must be above 0")
    stores = {store for name in options.run or all_runs() for store in all_runs()[name].stores}
    if options.store and stores.isdisjoint(options.store):
        parser.error("none of these runs is played on any of these stores")
    return options


def _target(options: argparse.Namespace, whole: Path) -> Path | None:
    """The file to write: `whole` where nothing was left out."""
    file: Path | None = options.results
    return file or (None if options.run or options.store else whole)


def _command(options: argparse.Namespace) -> str:
    """That repeats this."""
    what = ["--broken"] if options.broken else ["--minutes", f"{options.minutes:g}"]
    chosen = [["--run", *options.run]] if options.run else []
    chosen += [["--store", *options.store]] if options.store else []
    return " ".join(["scripts/chaos", *what, "--seed", options.seed, *chain.from_iterable(chosen)])


def _parts(runs: Sequence[str] | None, stores: Sequence[str] | None) -> list[tuple[Run, str]]:
    """Each run on each of its stores that is here."""
    chosen = [run for name, run in all_runs().items() if runs is None or name in runs]
    parts = [(run, store) for run in chosen for store in run.stores if stores is None or store in stores]
    return [(run, store) for run, store in parts if not _lacks(run, store)]


def _lacks(run: Run, store: str) -> bool:
    reason = lack_of(run, store)
    if reason:
        print(f"{run.name} on {store} is left out: {reason}")
    return reason is not None


async def _play(parts: list[tuple[Run, str]], minutes: float, seed: str, servers: ChaosServers) -> list[Outcome]:
    """One after the other, those together that can be. What one leaves of its share of the time, the others have."""
    outcomes: list[Outcome] = []
    for store in {store for _, store in parts}:
        servers.start(store)
    end = time.monotonic() + minutes * 60
    left = _together(parts)
    while left:
        run, stores = left[0]
        share = run.share / sum(each.share for each, _ in left)
        size = run.asked.scaled(min(1.0, minutes / ASKED_WITHIN))
        seconds = (end - time.monotonic()) * share - TO_AN_END
        plays = [play(run, store, servers, size, seed=seed, seconds=seconds) for store in stores]
        outcomes += await asyncio.gather(*plays)
        print(*outcomes[-len(plays) :], sep="\n", flush=True)
        del left[0]
    return outcomes


def _together(parts: list[tuple[Run, str]]) -> list[tuple[Run, list[str]]]:
    """The stores that each run is played on at the same time."""
    joined: list[tuple[Run, list[str]]] = []
    for run, store in parts:
        if run.waits and joined and joined[-1][0] is run:
            joined[-1][1].append(store)
        else:
            joined.append((run, [store]))
    return joined


if __name__ == "__main__":
    main()
