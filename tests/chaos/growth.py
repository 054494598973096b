"""Whether something that is measured again and again grows: its end is compared to where it had settled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil


@dataclass(frozen=True)
class Growth:
    settled: float
    """The median of the second quarter: what a process needs to get going is there by then."""
    end: float
    """The median of the last quarter."""

    def is_beyond(self, share: float, few: float) -> bool:
        """Whether it grew by more than a share of what it was, and by more than a few."""
        return self.end - self.settled > max(self.settled * share, few)


def growth(values: Sequence[float]) -> Growth | None:
    """None for fewer values than tell anything."""
    quarter = len(values) // 4
    if quarter < 3:
        return None
    return Growth(median(values[quarter : 2 * quarter]), median(values[-quarter:]))


class Resources:
    """What a process takes, sample by sample."""

    def __init__(self, pid: int, census: Path) -> None:
        self._process = psutil.Process(pid)
        self._census = census / f"{pid}.jsonl"
        self._taken: list[tuple[float, float]] = []

    def sample(self) -> None:
        with self._process.oneshot():
            self._taken.append((self._process.memory_info().rss / 2**20, float(self._process.num_fds())))

    def series(self) -> dict[str, list[float]]:
        """What was measured, by what it is; memory in MB."""
        counted = [json.loads(line) for line in self._census.read_text().splitlines()] if self._census.exists() else []
        return {
            "memory": [memory for memory, _ in self._taken],
            "descriptors": [descriptors for _, descriptors in self._taken],
            "tasks": [each["tasks"] for each in counted],
            "threads": [each["threads"] for each in counted],
        }
