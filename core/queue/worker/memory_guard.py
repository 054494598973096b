"""Stops a worker that has grown beyond --memory, so that a supervisor starts it anew."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger("routemq.queue.worker")

INTERVAL = 1.0
"""Seconds between looks."""
_STATM = Path("/proc/self/statm")


async def watch_memory(limit: float, stop: Callable[[], None]) -> None:
    """Call `stop` once the process has more than `limit` MB (of 1,000,000 bytes) of resident memory."""
    while (used := _megabytes_in_use()) <= limit:  # noqa: ASYNC110, nobody announces growth
        await asyncio.sleep(INTERVAL)
    _log.warning("stopping: %.0f MB of resident memory are in use, --memory allows %g", used, limit)
    stop()


def _megabytes_in_use() -> float:
    """0 where that cannot be told for now, as without a free file handle: the guard must not end the worker by that."""
    try:
        return resident_bytes() / 1e6
    except Exception as error:
        _log.warning("cannot tell how much memory is in use, for --memory: %s", error)
        return 0.0


def resident_bytes() -> int:
    """Resident memory of this process; its peak, where the system does not tell more."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
