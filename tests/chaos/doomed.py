"""Processes that die at a step of their own choosing: forked, so that there may be hundreds of them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.steps import Steps, watch

PATIENCE = 60.0
"""Seconds within which a doomed process must have come to its end."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.chaos.crash_scenarios", "tests.chaos.crash_router"])


@dataclass(frozen=True)
class Doom:
    """What became of one doomed process."""

    fatal: int
    was_killed: bool
    """False where it came to its end before the step at which it was to die."""
    steps: list[str]


def run(target: Callable[..., Any], *arguments: Any, fatal: int, notes: Path) -> Doom:
    """Run `target(steps, *arguments)` in a process that dies before the step `fatal`."""
    notes.unlink(missing_ok=True)
    process = _forks.Process(target=_live, args=(target, fatal, notes, arguments))
    process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"a doomed process came to no end within {PATIENCE:g} s; its steps: {_read(notes)}")
    if process.exitcode not in (0, -signal.SIGKILL):
        raise AssertionError(f"a doomed process ended with {process.exitcode}; its steps: {_read(notes)}")
    return Doom(fatal, process.exitcode != 0, _read(notes))


def _live(target: Callable[..., Any], fatal: int, notes: Path, arguments: tuple[Any, ...]) -> None:
    steps = Steps(fatal, notes)
    watch(steps)
    target(steps, *arguments)


def _read(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []
