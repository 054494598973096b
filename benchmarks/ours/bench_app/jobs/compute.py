from __future__ import annotations

from tally import ran

from core.job import Job

ROUNDS = 20_000
"""About a millisecond. A fixed amount of work: by the clock, two jobs on one core would seem to cost nothing."""


class Compute(Job):
    execution = "process"
    number: int

    def handle(self) -> None:
        total = 0
        for each in range(ROUNDS):
            total += each
        ran(self.number)
