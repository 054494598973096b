"""How long answers of child processes may gather before they are read."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST = 0.01
"""Seconds that a worker learns late, at most, that a job has ended."""
SHORTEST = 0.001
"""Seconds below which a pause does not pay."""
PART = 0.75
"""Of what the processes have ahead, so much is done when a pause ends: none of them is to run dry."""


class AnswerPauses:
    """Takes the time that jobs will need from that which the last ones have needed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    def next(self, answered: int, busy: int, ahead: int) -> float:
        """Seconds; 0 for none. Given how many answers have come since this was last asked, how many processes are
        at work, and how many jobs each of them has ahead at least."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        if not answered or not ahead:
            return 0.0
        job = elapsed * busy / answered
        pause = min(LONGEST, job * ahead * PART)
        return pause if pause >= SHORTEST else 0.0
