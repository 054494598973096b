"""Ends the servers of a test run that could not end them itself (killed, or out of patience with Ctrl-C).

The guardian is a process of its own, told which servers run. The pipe to it closes with the test run,
however that ends; what still runs then is killed, and its directory removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path


class Guardian:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def watch(self, pid: int, directory: Path | None = None) -> None:
        """Of a process that leads a group, all of it. The directory, if any, is to be removed."""
        self._tell(f"watch {pid} {directory or ''}")

    def forget(self, pid: int) -> None:
        self._tell(f"forget {pid}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)


@cache
def guardian() -> Guardian:
    """The one guardian of this test run."""
    return Guardian()


def main() -> None:
    watched: dict[int, str] = {}
    for line in sys.stdin:
        verb, pid, *directory = line.rstrip("\n").split(" ", 2)
        if verb == "watch":
            watched[int(pid)] = directory[0]
        else:
            watched.pop(int(pid), None)
    for pid, directory_left in watched.items():
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)
        if directory_left:
            shutil.rmtree(directory_left, ignore_errors=True)


if __name__ == "__main__":
    main()
