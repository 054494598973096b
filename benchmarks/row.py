"""What is measured, and what it is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from benchmarks.contenders import Contender
from benchmarks.stage import Stage

Figures: TypeAlias = dict[str, float]
"""What one run measured: unit → value. The first is the one that counts."""


@dataclass(frozen=True)
class Entry:
    """One line of a row's table."""

    label: str
    contender: Contender
    run: Callable[[Stage], Figures]
    rounds: int | None = None
    """At most so many, where one run takes minutes."""
    quick: bool = True


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    entries: tuple[Entry, ...]
    note: str = ""


@dataclass
class Result:
    """All runs of one entry."""

    label: str
    contender: Contender
    runs: list[Figures] = field(default_factory=list)
    error: str | None = None

    @property
    def unit(self) -> str:
        """Of the figure that counts, where there is one."""
        return next(iter(self.runs[0]), "") if self.runs else ""

    def median(self, unit: str | None = None) -> float | None:
        if not self.runs:
            return None
        return median(run[unit or self.unit] for run in self.runs)


Results: TypeAlias = dict[str, list[Result]]
"""By the row's name."""


@dataclass(frozen=True)
class Bar:
    """One line of "done when": a value of the results, and the limit it has to reach, or stay below."""

    what: str
    row: str
    text: str
    hoped: str
    value: Callable[[Medians], float | None]
    limit: float
    above: bool = True
    unit: str = "x"
    only: str = ""
    """The rows that it takes to reproduce it, where that is more than `row`."""

    def met(self, value: float) -> bool:
        return value >= self.limit if self.above else value <= self.limit


class Medians:
    """The results, as the bars ask for them. None where there is no value."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def of(self, row: str, label: str = "RouteMQ", unit: str | None = None) -> float | None:
        return next((each.median(unit) for each in self._results.get(row, []) if each.label == label), None)

    def first(self, row: str, label: str) -> float | None:
        """Of the first round alone: to compare with what is measured but once, and may be on a slower machine later."""
        runs = next((each.runs for each in self._results.get(row, []) if each.label == label), [])
        return next(iter(runs[0].values())) if runs else None

    def best(self, row: str, *labels: str) -> float | None:
        """Of the peers named; of all that are at least once, where none is."""
        peers = [each for each in self._results.get(row, []) if each.label != "RouteMQ"]
        counted = [each for each in peers if (each.label in labels if labels else each.contender.at_least_once)]
        return max((value for each in counted if (value := each.median()) is not None), default=None)


def ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other
