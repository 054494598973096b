"""A sign of life for health checks: a file that is touched while the program is healthy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

_log = logging.getLogger("routemq")

INTERVAL = 5.0
"""Seconds; a check that finds the file older than three of them may call the program ill."""


@asynccontextmanager
async def showing_health(file: str | None, is_healthy: Callable[[], bool]) -> AsyncIterator[None]:
    """Touch `file` every few seconds while `is_healthy()`, as long as the block runs; None shows nothing."""
    if file is None:
        yield
        return
    task = asyncio.create_task(_show(Path(file), is_healthy), name="health")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def looks_healthy(file: str) -> bool:
    """Whether the program that shows its health by this file has done so lately."""
    try:
        return time.time() - Path(file).stat().st_mtime < 3 * INTERVAL
    except FileNotFoundError:
        return False


async def _show(file: Path, is_healthy: Callable[[], bool]) -> None:
    try:
        while True:
            if is_healthy():
                _touch(file)
            await asyncio.sleep(INTERVAL)
    finally:
        file.unlink(missing_ok=True)


def _touch(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:  # a full disk must not end the only sign of life for good
        _log.warning("cannot touch the file of APP_HEALTH_FILE: %s; correct its path or its rights", error)
