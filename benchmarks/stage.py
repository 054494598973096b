"""Where contenders perform: a fresh store, a tally, and the contender's processes around them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.environments import HERE, Environments
from benchmarks.inside.tally import Tally
from benchmarks.servers import Servers, our_settings
from tests.project import make_project

PATIENCE = 240.0
"""Seconds after which a contender that does not come to its end has failed."""
POLL = 0.005
KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
"""All that a contender gets of our environment: any other variable may be a setting of somebody's own programs."""


class Failed(Exception):
    """A contender's run that does not count; says what was wrong."""


@dataclass
class Stage:
    environments: Environments
    servers: Servers
    quick: bool

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def performance(self, contender: Contender, store: str, capacity: int, **variables: str) -> Iterator[Performance]:
        """`variables` are environment variables of all of the contender's processes."""
        python = self.environments.python(contender.folder)
        with tempfile.TemporaryDirectory(prefix="routemq-bench-") as name:
            directory = Path(name)
            with self.servers.store(store, directory) as address:
                tally = Tally.create(str(directory / "tally"), capacity)
                yield Performance(contender, python, address, directory, tally, variables)


@dataclass
class Performance:
    contender: Contender
    python: Path
    address: str
    directory: Path
    tally: Tally
    variables: dict[str, str] = field(default_factory=dict)

    @cached_property
    def project(self) -> Path:
        """Where its processes start: the checkout has a `.env` of the user's, which names the user's own queue."""
        folder = self.directory / "project"
        folder.mkdir()
        make_project(folder)
        return folder

    def verb(self, *words: object) -> Any:
        """Run one verb of the contender to its end; what it returned."""
        done = subprocess.run(
            self._command(*words),
            env=self.environment(),
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise Failed(f"`{words[0]}` ended with code {done.returncode}: {_end_of(done.stderr)}")
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def running(self, *command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the contender (by default, its worker), which ends with the block."""
        log = self.directory / f"{len(list(self.directory.iterdir()))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command) or self._command("work"),
                env=self.environment() | variables,
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
            if process.poll() is not None:
                raise Failed(f"it ended by itself with code {process.returncode}: {_end_of(log.read_text())}")
        except Failed as failure:
            raise Failed(f"{failure} | {_end_of(log.read_text(errors='replace'))}") from None
        finally:
            _end(process)

    def wait_for(self, first: int, end: int, process: subprocess.Popen[bytes], patience: float = PATIENCE) -> None:
        """Until the jobs `first` to `end` - 1 have run."""
        give_up = time.monotonic() + patience
        while (done := self.tally.done(first, end)) < end - first:
            if process.poll() is not None:
                raise Failed(f"ended with code {process.returncode} after {done} of {end - first} jobs")
            if time.monotonic() > give_up:
                raise Failed(f"ran {done} of {end - first} jobs within {patience:g} s")
            time.sleep(POLL)

    def check(self, first: int, end: int, left: int | None = 0) -> None:
        """That each has run exactly once, and that the store holds `left` jobs (None: not to be asked)."""
        if not self.tally.each_once(first, end):
            counts = bytes(self.tally.counts[first:end])
            never, once = counts.count(0), counts.count(1)
            raise Failed(f"{never} jobs did not run, {len(counts) - never - once} ran more than once")
        if left is not None and (found := self.verb("left", left)) != left:
            raise Failed(f"the store holds {found} jobs, and not {left}")

    def environment(self) -> dict[str, str]:
        path = [str(HERE / "inside"), self.contender.path]
        ours = our_settings(self.address, self.directory) if self.contender.is_ours else {}
        return {
            **{name: value for name, value in os.environ.items() if name in KEPT},
            **ours,
            **self.variables,
            "PYTHONPATH": os.pathsep.join([*path, str(self.project)] if ours else path),
            "PYTHONUNBUFFERED": "1",
            "PYTHON_DOTENV_DISABLED": "1",  # a peer may look for `.env` from its packages upwards: in the checkout
            "BENCH_URL": self.address,
            "BENCH_TALLY": str(self.directory / "tally"),
        }

    def _command(self, *words: object) -> list[str]:
        return [str(self.python), str(HERE / "inside" / "contender.py"), *map(str, words)]


def resident(pid: int) -> float:
    """MB that a process holds, the tally left out: of that, a page more is mapped with every 455 jobs counted."""
    total, is_tally = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):  # the head of a mapping, which ends with its file
            is_tally = line.endswith("/tally")
        elif name == "Rss:" and not is_tally:
            total += int(values[0])
    return total / 1024


def largest_resident(pid: int) -> float:
    """MB that a process has held at most, the tally included."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def until(condition: Callable[[], bool], what: str, patience: float = 180.0) -> None:
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise Failed(f"{what} did not come within {patience:g} s")
        time.sleep(POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """At once, with its children: what it did is verified by now, and some take seconds to stop."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])[-300:] or "no output"


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
