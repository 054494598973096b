"""Job ids: UUIDv7 (RFC 9562, section 5.7), which sort by the time they were made."""

from __future__ import annotations

import os
import random
import time
from threading import Lock

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = 0xFFF << 62  # where the random bits stand before version and variant are put between them
_RANDOM_B = (1 << 62) - 1
_RANDOM_BITS = 74
_TAIL_BYTES, _TAIL_BITS = 6, 48  # the last group


class JobIds:
    """Makes ids that grow within a process, so that those made within one millisecond sort in order, too.

    Two processes never make the same: a new millisecond begins at a random number, and the next id is
    that number plus another random one (RFC 9562, section 6.2, method 2). Each process has random numbers of
    its own: the system is asked for the seed alone, as to ask it for each id would take longer than all the rest.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._set(0)
        self._seed()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._seed)  # a fork must not go on where its parent does

    def next(self) -> str:
        milliseconds = time.time_ns() // 1_000_000
        with self._lock:
            if milliseconds > self._milliseconds:
                self._set(milliseconds << _RANDOM_BITS | self._random(_RANDOM_BITS))
            else:
                self._tail += 1 + self._random(32)
                if self._tail >> _TAIL_BITS:
                    self._set((self._front << _TAIL_BITS) + self._tail)
            return self._head + self._tail.to_bytes(_TAIL_BYTES, "big").hex()

    def _set(self, number: int) -> None:
        """Go on from here. What the ids of one millisecond have in common is kept as text."""
        self._milliseconds = number >> _RANDOM_BITS
        self._front, self._tail = number >> _TAIL_BITS, number & (1 << _TAIL_BITS) - 1
        self._head = _text(number)[: -2 * _TAIL_BYTES]

    def _seed(self) -> None:
        self._random = random.Random(os.urandom(32)).getrandbits


def _text(number: int) -> str:
    value = number >> _RANDOM_BITS << 80 | _VERSION | (number & _RANDOM_A) << 2 | _VARIANT | number & _RANDOM_B
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


new_job_id = JobIds().next
