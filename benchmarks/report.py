"""The results as Markdown and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.bars import BARS
from benchmarks.environments import pinned
from benchmarks.row import Bar, Medians, Result, Results, Row, ratio

CHART = "results.svg"
NOTES = "notes"
"""Beside results, the folder of what their run cannot tell, as the profile that shows where the time goes where a bar
is missed: a file for each row that has something to be said, `ROW.md`, which is put under it."""


@dataclass
class Report:
    rows: list[Row]
    results: Results
    machine: dict[str, str]
    rounds: int
    quick: bool
    loads: list[float]  # of the machine before each round, ours not in it at the first
    notes: Path | None = None
    """The folder of those about this run; a run that has just ended has none yet."""

    @classmethod
    def read(cls, rows: list[Row], text: str, notes: Path | None = None) -> Report:
        """What `json` wrote, of those rows that it has."""
        data = json.loads(text)
        entries = {(row.name, entry.label): entry for row in rows for entry in row.entries}
        results = {
            name: [
                Result(each["label"], entries[name, each["label"]].contender, each["runs"], each["error"])
                for each in line
            ]
            for name, line in data["rows"].items()
        }
        there = [row for row in rows if row.name in results]
        return cls(there, results, data["machine"], data["rounds"], data["quick"], data["load_average"], notes)

    def markdown(self) -> str:
        return "\n".join([*self._head(), *self._bars(), *self._rows(), *self._machine(), ""])

    def json(self) -> str:
        return json.dumps(self._data(), indent=1, ensure_ascii=False)

    def _head(self) -> Iterator[str]:
        yield "# Benchmarks"
        yield ""
        rounds = f"{self.rounds} round{'s' * (self.rounds > 1)}{' with `--quick`' * self.quick}"
        yield f"Medians of {rounds}, RouteMQ and its peers in turn, on one machine, each in an environment of its"
        yield "own, with fresh stores. Every job is counted: a run in which one did not run, ran twice, or was left in"
        yield "the store is a failure. The clock runs from the first job's start to the last's, or over all dispatches"
        yield "after a first hundred. Redis and PostgreSQL run without fsync, mosquitto without limits on its queues."
        yield "Peers that are not at least once do not count where a bar speaks of the best. RouteMQ-PyPI is"
        yield f"the earlier RouteMQ {pinned('routemq')}, the package of that name."
        if warning := self._loaded():
            yield ""
            yield f"**{warning}**"
            yield ""
        if self._missed() and not self._unexplained():
            yield "Where a bar is missed, a note under its row says why."
        yield ""
        yield f"![Jobs a second, RouteMQ and its peers]({CHART})"
        yield ""

    def _loaded(self) -> str:
        cores = re.search(r"(\d+) cores", self.machine.get("processor", ""))
        return machine.loaded(self.loads[0], int(cores[1])) if cores and self.loads else ""

    def _bars(self) -> Iterator[str]:
        yield "## The bars"
        yield ""
        yield from table(
            ["what", "bar", "hoped for", "measured", "", "command"],
            [self._bar(bar, value) for bar, value in self._measured()],
        )
        if unexplained := self._unexplained():
            yield f"Missed, and no note yet: {', '.join(unexplained)}."
            yield ""

    def _measured(self) -> list[tuple[Bar, float | None]]:
        medians = Medians(self.results)
        return [(bar, bar.value(medians)) for bar in BARS if bar.row in self.results]

    def _missed(self) -> list[str]:
        """The rows that miss a bar."""
        missed = [bar.row for bar, value in self._measured() if value is not None and not bar.met(value)]
        return list(dict.fromkeys(missed))

    def _unexplained(self) -> list[str]:
        return [row for row in self._missed() if not self._note(row)]

    def _bar(self, bar: Bar, value: float | None) -> list[str]:
        verdict = "not measured" if value is None else "met" if bar.met(value) else "**missed**"
        return [bar.what, bar.text, bar.hoped, figure(value, bar.unit), verdict, command(bar.only or bar.row)]

    def _rows(self) -> Iterator[str]:
        for row in self.rows:
            yield f"## {row.title}"
            yield ""
            yield command(row.name) + (f" {row.note}" if row.note else "")
            yield ""
            yield from row_table(self.results[row.name])
            if note := self._note(row.name):
                yield note
                yield ""

    def _note(self, row: str) -> str:
        file = self.notes / f"{row}.md" if self.notes else None
        return file.read_text().strip() if file and file.exists() else ""

    def _machine(self) -> Iterator[str]:
        yield "## Machine and versions"
        yield ""
        yield from table(["", ""], [[name, value] for name, value in self.machine.items() if value])
        yield f"Load average before each round: {', '.join(f'{load:.2f}' for load in self.loads)}."

    def _data(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "rounds": self.rounds,
            "quick": self.quick,
            "load_average": self.loads,
            "rows": {name: [_result(each) for each in results] for name, results in self.results.items()},
            "bars": [
                {
                    "what": bar.what,
                    "row": bar.row,
                    "bar": bar.text,
                    "value": value,
                    "met": None if value is None else bar.met(value),
                }
                for bar, value in self._measured()
            ],
        }


def row_table(results: list[Result]) -> Iterator[str]:
    units = list(dict.fromkeys(unit for each in results for run in each.runs for unit in run))
    ours = next((each.median() for each in results if each.label == "RouteMQ"), None)
    head = ["", "version", "at least once", *units, "ours / theirs", "set up"]
    yield from table(head, [_line(each, units, ours) for each in sorted(results, key=_order)])


def _line(result: Result, units: list[str], ours: float | None) -> list[str]:
    contender = result.contender
    values = [_spread(result, unit) for unit in units] if result.runs else _blank(result, units)
    compared = "" if result.label == "RouteMQ" or ours is None else figure(ratio(ours, result.median()), "x")
    once = "yes" if contender.at_least_once else "no"
    failure = f" (a run failed: {result.error})".replace("|", "/") if result.runs and result.error else ""
    return [result.label, contender.version, once, *values, compared, contender.setup + failure]


def _blank(result: Result, units: list[str]) -> list[str]:
    return [f"not measured: {result.error}".replace("|", "/"), *[""] * (len(units) - 1)]


def _spread(result: Result, unit: str) -> str:
    values = [run[unit] for run in result.runs if unit in run]
    middle = number(result.median(unit))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def _order(result: Result) -> tuple[bool, float]:
    return result.label != "RouteMQ", -(result.median() or 0)


def _result(result: Result) -> dict[str, Any]:
    return {
        "label": result.label,
        "contender": result.contender.name,
        "version": result.contender.version,
        "at_least_once": result.contender.at_least_once,
        "runs": result.runs,
        "error": result.error,
    }


def table(head: list[str], lines: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for line in lines:
        yield f"| {' | '.join(line)} |"
    yield ""


def figure(value: float | None, unit: str) -> str:
    return "" if value is None else f"{number(value)} {unit}"


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def command(row: str) -> str:
    return f"`scripts/bench --only {row}`"
