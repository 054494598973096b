"""Measures RouteMQ and its peers, and writes what came out. `scripts/bench --help`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from benchmarks.chart import chart
from benchmarks.command_line import LATEST, RESULTS, parse
from benchmarks.environments import HERE, EnvironmentFailed, Environments, find_python
from benchmarks.report import CHART, NOTES, Report
from benchmarks.row import Entry, Result, Results, Row
from benchmarks.rows import dispatching, growth, messages, pickup, startup, workers
from benchmarks.servers import Servers, StoreMissing
from benchmarks.stage import Failed, Stage, note

ROWS = [*workers.ROWS, *dispatching.ROWS, *pickup.ROWS, *messages.ROWS, *growth.ROWS, *startup.ROWS]
QUICK_SECONDS = 165.0
"""After so long, a quick run starts no further measurement; it is to end within three minutes."""


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
        elif failure := self._stage.environments.failure(entry.contender.folder):
            result.error = failure
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
    options = parse(ROWS)
    if options.report:
        _write(Report.read(ROWS, (options.report / RESULTS).read_text(), options.report / NOTES), options.report)
        return
    begun = time.monotonic()
    rows = _quick(options.only) if options.quick else options.only
    if not rows:
        sys.exit("--quick has no time for these rows. Leave it out.")
    target = _target(options.output, rows, options.quick)
    target.mkdir(parents=True, exist_ok=True)
    if warning := machine.loaded(machine.load(), machine.cores()):
        note(warning)
    python = options.python or find_python()
    environments = Environments(python)
    environments.make(_folders(rows))
    until = begun + QUICK_SECONDS if options.quick else float("inf")
    with closing(Servers()) as servers:
        run = Run(rows, Stage(environments, servers, options.quick), options.rounds, until)
        run.run()
    _write(Report(rows, run.results, machine.describe(python), run.rounds, options.quick, run.loads), target)


def _quick(rows: list[Row]) -> list[Row]:
    """What --quick has time for."""
    shorter = [replace(row, entries=tuple(each for each in row.entries if each.quick)) for row in rows]
    return [row for row in shorter if row.entries]


def _folders(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(entry.contender.folder for row in rows for entry in row.entries))


def _target(wanted: Path | None, rows: list[Row], quick: bool) -> Path:
    """Only a whole run replaces the results that are in the tree."""
    return wanted or (HERE if len(rows) == len(ROWS) and not quick else LATEST)


def _write(report: Report, target: Path) -> None:
    (target / "RESULTS.md").write_text(report.markdown())
    (target / RESULTS).write_text(report.json())
    (target / CHART).write_text(chart(report.rows, report.results))
    print(report.markdown())
    note(f"written to {target}/: RESULTS.md, {RESULTS}, {CHART}")
    if report.notes is None and any((target / NOTES).glob("*.md")):
        note(f"{target / NOTES}/ is about the run before. Write it anew, then: scripts/bench --report {target}")


if __name__ == "__main__":
    main()
