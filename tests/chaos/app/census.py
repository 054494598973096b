"""What a process holds that only it can count: tasks and threads. Told where the environment asks for it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

_PAUSE = 0.5
"""Seconds between two tellings of a process."""
_told_at = [0.0]


def tell() -> None:
    """Called as often as one likes; what is no part of an event loop tells nothing."""
    directory, now = os.environ.get("CENSUS"), time.monotonic()
    if directory is None or now < _told_at[-1] + _PAUSE:
        return
    with suppress(RuntimeError):
        tasks = len(asyncio.all_tasks())
        _told_at[:] = [now]
        _write(Path(directory), {"at": now, "tasks": tasks, "threads": threading.active_count()})


def _write(directory: Path, counted: dict[str, float]) -> None:
    with (directory / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(counted) + "\n")
