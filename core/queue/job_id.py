"""Job ids: UUIDv7 (RFC 9562, section 5.7), which sort by the time they were made."""

from __future__ import annotations

import os
import time
from threading import Lock

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = 0xFFF << 62  # where the random bits stand before version and variant are put between them
_RANDOM_B = (1 << 62) - 1
_RANDOM_BITS = 74


class JobIds:
    """Makes ids that grow within a process, so that those made within one millisecond sort in order, too.

    Two processes never make the same: a new millisecond begins at a random number, and the next id is
    that number plus another random one (RFC 9562, section 6.2, method 2).
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._last = 0

    def next(self) -> str:
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(9))
        with self._lock:
            step = 1 + int.from_bytes(os.urandom(4))
            self._last = fresh if fresh >> _RANDOM_BITS > self._last >> _RANDOM_BITS else self._last + step
            number = self._last
        return _text(number)


def _text(number: int) -> str:
    value = number >> _RANDOM_BITS << 80 | _VERSION | (number & _RANDOM_A) << 2 | _VARIANT | number & _RANDOM_B
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


new_job_id = JobIds().next
