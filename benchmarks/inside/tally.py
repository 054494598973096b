"""Which job ran when, and how often: a file that the measured processes and the measuring one map into memory.

Every job of every contender calls `ran(number)`, which costs a quarter of a microsecond. It knows nothing of the
contenders, and needs the standard library alone.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from time import monotonic

_DOUBLE = 8


class Tally:
    """For the jobs 0 to `capacity` - 1: the time at which each last started, and how often it did."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.capacity = len(self._map) // (_DOUBLE + 1)
        split = self.capacity * _DOUBLE
        self.started = memoryview(self._map)[:split].cast("d")
        self.counts = memoryview(self._map)[split:]

    @classmethod
    def create(cls, path: str, capacity: int) -> Tally:
        with Path(path).open("wb") as file:
            file.truncate(capacity * (_DOUBLE + 1))
        return cls(path)

    def ran(self, number: int) -> None:
        self.started[number] = monotonic()
        self.counts[number] += 1

    def done(self, first: int, end: int) -> int:
        """How many of the jobs `first` to `end` - 1 have run."""
        return end - first - bytes(self.counts[first:end]).count(0)

    def seconds(self, first: int, end: int) -> float:
        """From the start of the first of these jobs to that of the last."""
        times = self.started[first:end]
        return max(times) - min(times)

    def each_once(self, first: int, end: int) -> bool:
        return bytes(self.counts[first:end]) == b"\1" * (end - first)


if "BENCH_TALLY" in os.environ:
    ran = Tally(os.environ["BENCH_TALLY"]).ran
