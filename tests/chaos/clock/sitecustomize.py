"""Gives a process a wrong clock: the one that tells the time of day, not the one that measures how much has passed.

Python imports a module of this name before anything else where it finds one: this folder is to be on PYTHONPATH. Then
WRONG_CLOCK says how many seconds the clock is ahead (or, negative, behind), or that it "jumps" every half second.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import os
import random
import time
from typing import Any

FARTHEST = 600.0
"""Seconds that a clock that jumps is ahead or behind at most."""
_EVERY = 0.5  # seconds

_time, _time_ns, _now = time.time, time.time_ns, dt.datetime.now


def _ahead() -> float:
    wrong = os.environ["WRONG_CLOCK"]
    if wrong == "jumps":
        return random.Random(time.monotonic() // _EVERY).uniform(-FARTHEST, FARTHEST)
    return float(wrong)


def _wrong_now(_cls: Any, tz: dt.tzinfo | None = None) -> dt.datetime:
    return _now(tz) + dt.timedelta(seconds=_ahead())


def _set_wrong() -> None:
    time.time = lambda: _time() + _ahead()
    time.time_ns = lambda: _time_ns() + int(_ahead() * 1e9)
    # A class written in C lets nobody set its methods, and one put in its place would be another to libraries.
    (methods,) = [each for each in gc.get_referents(dt.datetime.__dict__) if isinstance(each, dict)]
    methods["now"] = classmethod(_wrong_now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))


if "WRONG_CLOCK" in os.environ:
    _set_wrong()
