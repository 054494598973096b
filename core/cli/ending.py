"""The end of a program whose own parts have stopped, though threads of the app's code may not have.

A thread cannot be stopped, and Python would wait for it for ever. What it still does is cut off: its job or message
was handed back, and runs again.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

_log = logging.getLogger("routemq")

_THREADS_GET = 1.0
"""Seconds, all together: idle ones of a pool need a moment."""


@contextmanager
def ending_in_time() -> Iterator[None]:
    """After the block, end the process at once if threads that were started in it do not end by themselves."""
    before = frozenset(threading.enumerate())
    try:
        yield
    except BaseException as error:
        if _are_left(before):
            _end_now(_exit_code(error))
        raise
    if _are_left(before):
        _end_now(0)


def _are_left(before: AbstractSet[threading.Thread]) -> bool:
    deadline = time.monotonic() + _THREADS_GET
    started = [each for each in threading.enumerate() if each not in before and not each.daemon]
    for each in started:
        each.join(max(0.0, deadline - time.monotonic()))
    left = [each.name for each in started if each.is_alive()]
    if left:
        _log.warning("ending although threads of the app's code still run: %s; they are cut off", ", ".join(left))
    return bool(left)


def _exit_code(error: BaseException) -> int:
    """Python's own for an error that ends a program, told as Python tells it."""
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        return 1
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def _end_now(code: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
