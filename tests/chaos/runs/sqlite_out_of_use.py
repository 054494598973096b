"""Another program holds the SQLite file for itself, and the disk that it is on is full, while work comes in."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url

from tests.chaos.outages import Harm, hurt
from tests.chaos.run import Run, Size
from tests.chaos.scene import Scene

FULL = 5.0
"""Seconds at most."""
SIZE = 32 * 1024 * 1024
"""Bytes of the disk."""
LEASE = 10.0
"""Seconds. SQLite lets in whoever asks at the right moment: with many who wait to write, once it is of use again, it
may take some of them until all owners have renewed their leases."""


async def play(scene: Scene, size: Size) -> None:
    file = make_url(scene.env["DATABASE_URL"]).database
    assert file
    scene.env["QUEUE_LEASE"] = str(LEASE)
    with _small_disk(Path(file)) as disk, closing(sqlite3.connect(file, check_same_thread=False)) as other:
        harms = [_lock(other, size)]
        if disk is None:
            scene.note("The disk was not filled: only root may mount one that is small.")
        else:
            harms.append(Harm("sqlite", "disk full", lambda: _fill(disk), (disk / "ballast").unlink, FULL))
        await hurt(scene, size, harms, scene.broker)


def _lock(other: sqlite3.Connection, size: Size) -> Harm:
    """For longer than SQLite itself waits."""
    other.execute("PRAGMA busy_timeout = 60000")  # there are writers all the while

    def lock() -> None:
        other.execute("BEGIN EXCLUSIVE")

    return Harm("sqlite", "locked", lock, other.rollback, size.lasting, at_most=False)


@contextmanager
def _small_disk(file: Path) -> Iterator[Path | None]:
    """Where the file is, there is a small disk from now on, with the file on it; None where we may not mount one."""
    content = file.read_bytes()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", file.parent], check=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        file.write_bytes(content)
        yield file.parent
    finally:
        subprocess.run(["umount", "--lazy", file.parent], check=True)  # the run's own connections are still open


def _fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(64 * 1024))


RUN = Run(
    play,
    asked=Size(jobs=0, faults=40, lasting=30.0),
    short=Size(jobs=0, faults=2, lasting=7.0),
    share=6,
    stores=("sqlite",),
    broker=True,
)
