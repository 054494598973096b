"""The ledger of a chaos run: what publishers, routers, tries, outcomes, hooks and the killer each saw, and when.

Every process appends to a file of its own, each line in one write: what was written before a SIGKILL is there after it.
Times are those of the system's monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from tests.chaos.app.orders import Order

What: TypeAlias = Literal[
    "accepted",
    "handled",
    "started",
    "done",
    "raised",
    "cancelled",
    "failed",
    "killed",
    "frozen",
    "thawed",
    "stopping",
    "stopped",
]
"""accepted  a broker acknowledged the message, or dispatch() returned: from here on it must not be lost.
handled   a controller was called with it.
started   a try of its job began.
done      that try did its work, which is the last that it did.
raised    that try ended with an exception of its own.
cancelled that try was ended by its worker, which stops, or has lost the lease.
failed    the job was given up, and its failed() called.
killed    the process is dead, by SIGKILL. Written by who killed it, once it was.
frozen    the process has come to a standstill, by SIGSTOP. Written by who stopped it, once it had.
thawed    it goes on.
stopping  the process is about to be asked to stop, by SIGTERM.
stopped   it has ended.
"""


Where: TypeAlias = Literal["loop", "thread", "child"]
"""An event loop, which a stopping worker cancels the try on; a thread, which it can only leave behind; or a child
process, which it kills."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    what: What
    at: float
    """Seconds, monotonic."""
    process: int
    """Whom it is about: the process that the work ran in, of a child process for jobs its worker; of killed, frozen,
    thawed, stopping and stopped, the one that it was done to."""
    id: str = ""
    """Of the message or order; of what befalls a process, none."""
    job: str = ""
    """Of started, done, raised, cancelled and failed: which job, as a message that is delivered again makes another."""
    attempt: int = 0
    """Of started, done, raised and cancelled: which try, as its job was told."""
    where: Where = "loop"
    """Of started: what runs it."""
    key: str = ""
    """Of accepted: within which it has to stay in order; none for no order."""
    fails: bool = False
    """Of accepted: whether it is meant to be given up."""
    once: bool = False
    """Of accepted: whether it is sent more than once, and to become one job all the same."""


class Ledger:
    """One process's file of a ledger."""

    def __init__(self, directory: Path) -> None:
        name = f"{os.getpid()}-{time.monotonic_ns()}.jsonl"
        self._file = os.open(directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)

    def write(
        self,
        what: What,
        about: str = "",
        *,
        job: str = "",
        attempt: int = 0,
        where: Where = "loop",
        key: str = "",
        fails: bool = False,
        once: bool = False,
        process: int | None = None,
    ) -> None:
        """Append an entry `about` a message or order; `process` is this one unless given."""
        whose = os.getpid() if process is None else process
        entry = Entry(what, time.monotonic(), whose, about, job, attempt, where, key, fails, once)
        os.write(self._file, msgspec.json.encode(entry) + b"\n")

    def accept(self, order: Order) -> None:
        self.write("accepted", order.id, key=order.key, fails=order.fails, once=order.once)

    def close(self) -> None:
        os.close(self._file)


def read(directory: Path) -> list[Entry]:
    """All entries, in the order of time. A line that its writer did not get to finish is left out."""
    return sorted(_entries(directory.glob("*.jsonl")), key=lambda entry: entry.at)


def _entries(files: Iterable[Path]) -> Iterator[Entry]:
    for file in files:
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield msgspec.json.decode(line, type=Entry)
