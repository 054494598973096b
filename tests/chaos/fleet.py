"""The routers and workers of a run: real processes, killed, frozen and stopped at will.

Whatever is done to one is written into the ledger: a kill once the process is dead, a freeze once it stands still.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import IO

import psutil

from tests import warm_python
from tests.acceptance.program import until
from tests.chaos.checker import Finding
from tests.chaos.ledger import Ledger
from tests.chaos.progress import Progress
from tests.project import make_project
from tests.servers.guardian import guardian

PATIENCE = 60.0
"""Seconds that a process gets to start or to stop, on a machine that is busy."""


MAIN = "CHAOS_MAIN"
"""In the environment of a process: what is started, if not this version's main.py."""
CLOCK = "WRONG_CLOCK"
"""In the environment of a process: that its clock is wrong, from its beginning."""


class Member:
    """One process of `main.py`. What it logs is in the file `log`."""

    def __init__(
        self, directory: Path, role: str, number: int, arguments: tuple[str, ...], env: Mapping[str, str]
    ) -> None:
        self.role = role
        """worker or router."""
        self.name = f"{role}-{number}"
        self.arguments = arguments
        self.env = env
        self.log = directory / f"{self.name}.log"
        self._health = directory / f"{self.name}.health"
        self.expected_end: int | None = None
        """The exit code of one that was told to end."""
        self.is_frozen = False
        with self.log.open("ab") as log:
            self.process = self._start(directory, {**env, "APP_HEALTH_FILE": str(self._health)}, log)
        guardian().watch(self.pid)

    def _start(
        self, directory: Path, env: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes] | warm_python.Process:
        main = env.get(MAIN) or make_project(directory)
        if env.keys() & {MAIN, CLOCK}:  # another version may want other libraries, a clock a sitecustomize
            return subprocess.Popen(
                [sys.executable, main, *self.arguments],
                env=env,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        with Path(os.devnull).open("wb") as nowhere:
            return warm_python.start(
                Path(main), *self.arguments, env=env, cwd=directory, stdout=nowhere.fileno(), stderr=log.fileno()
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    async def up(self) -> None:
        """Wait until it works: a worker, until it can fetch; a router, until its subscriptions are there."""
        if self.role == "router":
            await self.says("connected to the MQTT broker")
        else:
            await self._until(self._health.exists, "was up")

    async def says(self, text: str) -> None:
        """Wait until it has logged `text`."""
        await self._until(lambda: text in self.log.read_text(errors="replace"), f"said {text!r}")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert self.is_running, f"{self} ended with {self.process.returncode} before it {what}"
                await asyncio.sleep(0.02)

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid}, {self.log})"


class Fleet:
    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str],
        ledger: Ledger,
        progress: Progress,
        random: Random,
        faults: Counter[str],
    ) -> None:
        self.members: list[Member] = []
        """Those that ought to run."""
        self._gone: list[Member] = []
        self._directory = directory
        self._env = env
        self._ledger = ledger
        self._progress = progress
        self._random = random
        self._faults = faults
        self._started = 0

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────

    def start_worker(self, *arguments: str, queues: str = "chaos", **env: str) -> Member:
        """One that is to run jobs in processes as well serves "chaos,processes"."""
        return self._start("worker", ("--queue-work", "--queue", queues, *arguments), env)

    def start_router(self, **env: str) -> Member:
        return self._start("router", (), {"LOG_LEVEL": "INFO", **env})

    def _start(self, role: str, arguments: tuple[str, ...], env: Mapping[str, str]) -> Member:
        self._started += 1
        member = Member(self._directory, role, self._started, arguments, {**self._env, **env})
        self.members.append(member)
        return member

    # ── choosing ─────────────────────────────────────────────────────────────────────────────────────

    async def working(self, role: str = "worker") -> Member:
        """One at random of those that have begun to work; waits for one that has."""
        return (await self.some_working(1, role))[0]

    async def some_working(self, number: int, role: str = "worker") -> list[Member]:
        """As many at random."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self._have_worked(role)) < number:  # noqa: ASYNC110, a ledger has no event
                await asyncio.sleep(0.01)
        return self._random.sample(found, number)

    def _have_worked(self, role: str) -> list[Member]:
        self._progress.look()
        seen = self._progress.handled if role == "router" else self._progress.started
        return [each for each in self.of_role(role) if each.pid in seen and not each.is_frozen]

    def of_role(self, role: str) -> list[Member]:
        return [each for each in self.members if each.role == role]

    # ── harm ─────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, member: Member) -> None:
        """SIGKILL; returns once it is dead."""
        member.expected_end = -signal.SIGKILL
        member.process.kill()
        member.process.wait(PATIENCE)
        self._ledger.write("killed", process=member.pid)
        self._faults[f"{member.role} killed"] += 1
        self._forget(member)

    def replace(self, member: Member) -> Member:
        """Kill one, and start another in its place at once."""
        self.kill(member)
        return self.start_like(member)

    def start_like(self, member: Member) -> Member:
        return self._start(member.role, member.arguments, member.env)

    def freeze(self, member: Member) -> None:
        """SIGSTOP it and its children, as when the machine is suspended; returns once they stand still."""
        member.is_frozen = True
        _signal_family(member.pid, signal.SIGSTOP)
        until(lambda: psutil.Process(member.pid).status() == psutil.STATUS_STOPPED, f"{member} to stand still")
        self._ledger.write("frozen", process=member.pid)
        self._faults[f"{member.role} frozen"] += 1

    def thaw(self, member: Member) -> None:
        _signal_family(member.pid, signal.SIGCONT)
        self._ledger.write("thawed", process=member.pid)
        member.is_frozen = False

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, *members: Member) -> None:
        """SIGTERM to those that are up; returns once they have ended, which they have to with exit code 0."""
        self._faults.update(f"{member.role} stopped" for member in members)
        await self.retire(*members)

    async def retire_all(self) -> None:
        await self.retire(*[each for each in self.members if each.is_running])

    async def retire(self, *members: Member) -> None:
        """Stop members that have done their part. It is no fault, and not counted as one."""
        for member in members:
            await member.up()  # before, a signal ends it as it ends any program
            member.expected_end = 0
            self._ledger.write("stopping", process=member.pid)
            member.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*map(self._ended, members))

    async def _ended(self, member: Member) -> None:
        try:
            await asyncio.to_thread(member.process.wait, PATIENCE)
        except subprocess.TimeoutExpired:  # which `findings` tells of
            member.process.kill()
            await asyncio.to_thread(member.process.wait, PATIENCE)
        self._ledger.write("stopped", process=member.pid)
        self._forget(member)

    def close(self) -> None:
        """Whatever has happened, nothing is left behind."""
        for member in [each for each in self.members if each.is_running]:
            _signal_family(member.pid, signal.SIGKILL)
            member.process.wait(PATIENCE)
            guardian().forget(member.pid)

    def findings(self) -> Iterator[Finding]:
        """Processes that ended though nobody told them to, or in another way than they were told."""
        for member in [*self._gone, *self.members]:
            code = member.process.poll()
            if code is not None and code != member.expected_end:
                wanted = "to run on" if member.expected_end is None else f"{member.expected_end}"
                yield Finding("ended", str(member), f"with {code}, instead of {wanted}:\n{member.end_of_log()}")

    def _forget(self, member: Member) -> None:
        guardian().forget(member.pid)
        self.members.remove(member)
        self._gone.append(member)


def _signal_family(pid: int, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        for each in [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]:
            with suppress(ProcessLookupError):
                os.kill(each, number)
