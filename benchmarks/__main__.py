"""Measures RouteMQ and its peers, and writes what came out. `scripts/bench --help`."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from benchmarks.chart import chart
from benchmarks.environments import HERE, EnvironmentFailed, Environments, find_python
from benchmarks.report import CHART, Report
from benchmarks.row import Entry, Result, Results, Row
from benchmarks.rows import dispatching, growth, messages, pickup, startup, workers
from benchmarks.servers import Servers, StoreMissing
from benchmarks.stage import Failed, Stage, note

ROWS = [*workers.ROWS, *dispatching.ROWS, *pickup.ROWS, *messages.ROWS, *growth.ROWS, *startup.ROWS]
ROUNDS = 3
QUICK_SECONDS = 165.0
"""After so long, a quick run starts no further measurement; it is to end within three minutes."""
LATEST, RESULTS = HERE / ".latest", "results.json"


class Run:
    """One run of the suite: every entry of every row in turn, round after round."""

    def __init__(self, rows: list[Row], stage: Stage, rounds: int, until: float) -> None:
        self.rows, self.rounds = rows, rounds
        self._stage, self._until = stage, until
        self.results: Results = {row.name: [Result(each.label, each.contender) for each in row.entries] for row in rows}
        self.loads: list[float] = []

    def run(self) -> None:
        for round_ in range(self.rounds):
            self.loads.append(machine.load())
            for row, entry, result in self._entries():
                if entry.rounds is None or round_ < entry.rounds:
                    self._measure(row, entry, result)

    def _entries(self) -> Iterator[tuple[Row, Entry, Result]]:
        for row in self.rows:
            for entry, result in zip(row.entries, self.results[row.name], strict=True):
                yield row, entry, result

    def _measure(self, row: Row, entry: Entry, result: Result) -> None:
        if time.monotonic() > self._until:
            result.error = result.error or "no time left for it in --quick"
        else:
            begun = time.monotonic()
            said = self._attempt(entry, result)
            note(f"{row.name:24} {entry.label:18} {said}  [{time.monotonic() - begun:.1f} s]")

    def _attempt(self, entry: Entry, result: Result) -> str:
        try:
            figures = entry.run(self._stage)
        except (Failed, StoreMissing, EnvironmentFailed) as error:
            result.error = str(error)
        except Exception as error:  # one contender's failure is a line of the table, not the end of the run
            result.error = f"{type(error).__name__}: {error}"
        else:
            result.runs.append(figures)
            return ", ".join(f"{value:,.5g} {unit}" for unit, value in figures.items())
        return result.error


def main() -> None:
    options = _options()
    if options.report:
        _write(Report.read(ROWS, (options.report / RESULTS).read_text()), options.report)
        return
    begun = time.monotonic()
    rows = [row for row in ROWS if not options.only or re.search(options.only, row.name)]
    if options.quick:
        rows = _quick(rows)
    if not rows:
        sys.exit(f"--only {options.only}: no such row. There are: {', '.join(row.name for row in ROWS)}.")
    python = options.python or find_python()
    environments = Environments(python)
    environments.make(_folders(rows))
    until = begun + QUICK_SECONDS if options.quick else float("inf")
    with closing(Servers()) as servers:
        run = Run(
            rows, Stage(environments, servers, options.quick), options.rounds or (1 if options.quick else ROUNDS), until
        )
        run.run()
    _write(Report(rows, run.results, machine.describe(python), run.rounds, options.quick, run.loads), options.output)


def _quick(rows: list[Row]) -> list[Row]:
    """What --quick has time for."""
    shorter = [replace(row, entries=tuple(each for each in row.entries if each.quick)) for row in rows]
    return [row for row in shorter if row.entries]


def _folders(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(entry.contender.folder for row in rows for entry in row.entries))


def _write(report: Report, directory: Path | None) -> None:
    """Only a whole run replaces the results that are in the tree."""
    target = directory or (HERE if len(report.rows) == len(ROWS) and not report.quick else LATEST)
    target.mkdir(parents=True, exist_ok=True)
    (target / "RESULTS.md").write_text(report.markdown())
    (target / RESULTS).write_text(report.json())
    (target / CHART).write_text(chart(report.rows, report.results))
    print(report.markdown())
    note(f"written to {target}/: RESULTS.md, {RESULTS}, {CHART}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="within 3 minutes: one round, fewer jobs, fewer peers")
    parser.add_argument("--only", metavar="PATTERN", help="the rows whose name contains this regular expression")
    parser.add_argument("--rounds", type=int, help=f"rounds; the medians count. Default: {ROUNDS}, with --quick 1")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the results")
    parser.add_argument(
        "--report", type=Path, metavar="DIRECTORY", help="measure nothing: write the report there anew, with its notes"
    )
    parser.add_argument("--python", help="the Python that all contenders run on. Default: the newest at hand")
    return parser.parse_args()


if __name__ == "__main__":
    main()
