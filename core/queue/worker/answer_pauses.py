"""How long answers of child processes may gather before they are read."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST = 0.01
"""Seconds that a worker learns late, at most, that a job has ended."""
SHORTEST = 0.001
"""Seconds below which a pause does not pay."""
PART = 0.6
"""Of what the processes have ahead, so much is done when a pause ends: none of them is to run dry."""


class AnswerPauses:
    """Takes the time that jobs will need from that which the last ones have needed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at = clock()
        self._job = 0.0  # seconds; 0 for unknown

    def have_read(self, answers: int, busy: int) -> None:
        """So many answers were there now, of so many processes at work."""
        if answers:
            now = self._clock()
            self._job = (now - self._read_at) * busy / answers
            self._read_at = now

    def length(self, ahead: int) -> float:
        """Seconds from now, 0 for none, where each process whose answers gather has at least so many jobs ahead."""
        left = self._read_at + LONGEST - self._clock()  # beyond, it waits for whatever comes next
        pause = min(left, self._job * ahead * PART)
        return pause if pause >= SHORTEST else 0.0
