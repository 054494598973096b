"""`python main.py …`: a real process, its logs, its signals, its exit code. Started as a user does, but for what
warm_python.py spares it; test_readme.py starts some quite as a user does."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests import warm_python
from tests.project import clean_environment as clean_environment  # noqa: PLC0414, for whoever starts programs
from tests.project import make_project
from tests.servers.guardian import guardian

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 45.0
"""Seconds within which anything a test waits for must come, on a machine busy with other tests."""


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain for {what or condition}"
        time.sleep(0.01)
    return found


class Program:
    """One process of `main.py`. Leaving the `with` block kills it if it still runs."""

    def __init__(self, env: Mapping[str, str], *arguments: str) -> None:
        self.arguments = arguments
        self.stderr = ""
        self.stdout = ""
        folder = Path(env["SAMPLE_DIRECTORY"])
        pipes = {name: os.pipe() for name in ("stdout", "stderr")}
        written = {name: write for name, (_, write) in pipes.items()}
        self._process = warm_python.start(make_project(folder), *arguments, env=env, cwd=folder, **written)
        guardian().watch(self.pid)
        self._readers = [
            threading.Thread(target=self._read, args=(name, read), daemon=True) for name, (read, _) in pipes.items()
        ]
        for reader, write in zip(self._readers, written.values(), strict=True):
            os.close(write)
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self, text: str) -> None:
        """Wait until it has logged `text`."""
        until(lambda: text in self.stderr or self._process.poll() is not None, repr(text))
        assert text in self.stderr, f"{self} ended with {self._process.poll()} before it said {text!r}:\n{self.stderr}"

    def ends(self, code: int = 0) -> str:
        """Wait for its end and hold it to its exit code; what it printed."""
        found = self._process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        assert found == code, f"{self} ended with {found} instead of {code}:\n{self.stderr}"
        return self.stdout

    def send(self, signal_number: signal.Signals) -> None:
        self._process.send_signal(signal_number)

    def stop(self) -> None:
        self.send(signal.SIGTERM)
        self.ends(0)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a failure, what it started as well: nobody else would end that.
        left = psutil.Process(self.pid).children(recursive=True) if error and self.is_running() else []
        self.kill()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        guardian().forget(self.pid)
        for reader in self._readers:
            reader.join(PATIENCE / len(self._readers))  # a process that it left behind may have its pipe open

    def __str__(self) -> str:
        return f"main.py {' '.join(self.arguments)} (process {self.pid})"

    def _read(self, name: str, descriptor: int) -> None:
        with os.fdopen(descriptor) as stream:
            for line in stream:
                setattr(self, name, getattr(self, name) + line)


class Site:
    """A place to run programs at: one environment, one journal, one store, one broker."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory = directory
        self._journal = directory / "journal"
        self.env = clean_environment() | {
            "SAMPLE_DIRECTORY": str(directory),
            "SAMPLE_JOURNAL": str(self._journal),
            "APP_PACKAGE": "tests.acceptance.sample_app",
            "PYTHONPATH": str(ROOT),
            "LOG_LEVEL": "DEBUG",
            **env,
        }

    def start(self, *arguments: str, **env: str) -> Program:
        return Program({**self.env, **env}, *arguments)

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        """Run to the end; what it printed."""
        with self.start(*arguments, **env) as program:
            return program.ends(code)

    def complains(self, *arguments: str, exit_code: str = "1", **env: str) -> str:
        """Run something that is to fail; what it said."""
        with self.start(*arguments, **env) as program:
            program.ends(int(exit_code))
            assert "Traceback" not in program.stderr, program.stderr
            return program.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def entries(self, what: str) -> list[dict[str, Any]]:
        """What controllers and jobs wrote into the journal."""
        if not self._journal.exists():
            return []
        lines = [
            json.loads(line) for line in self._journal.read_text().splitlines(keepends=True) if line.endswith("\n")
        ]
        return [line for line in lines if line["what"] == what]

    def wait_for(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        until(lambda: len(self.entries(what)) >= count, f"{count} times {what!r}")
        return self.entries(what)

    def open_gate(self) -> None:
        Path(f"{self._journal}.open").touch()
