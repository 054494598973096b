"""One virtual environment for RouteMQ and one for each peer, made once and kept in `.environments/`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = HERE / ".environments"
AT_ONCE = 2

# Two of the peers need 3.12. All contenders run on the same Python, whatever it is.
_CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3")


class EnvironmentFailed(Exception):
    """A contender's packages could not be installed; it says which and why."""


class Environments:
    def __init__(self, base: str) -> None:
        self.base = base
        self._failures: dict[str, str] = {}

    def make(self, folders: list[str]) -> None:
        """Make those that are not there yet. A failure is kept, and raised when the contender is to run."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._make, folders))

    def failure(self, folder: str) -> str:
        """Why it could not be made, which has been told; empty where it is there."""
        return self._failures.get(folder, "")

    def python(self, folder: str) -> Path:
        if failure := self.failure(folder):
            raise EnvironmentFailed(failure)
        return CACHE / folder / "bin" / "python"

    def _make(self, folder: str) -> None:
        target, lock = CACHE / folder, requirements(folder)
        recorded = target / "installed.txt"
        wanted = f"{self.base}\n{lock.read_text()}"
        if recorded.exists() and recorded.read_text() == wanted:
            return
        print(f"installing {folder}", file=sys.stderr)
        shutil.rmtree(target, ignore_errors=True)
        options = ["--no-deps", "--require-hashes"] if folder == "ours" else []
        done = _run(self.base, "-m", "venv", "--without-pip", str(target))
        if not done.returncode:
            done = _install(target, *options, "-r", str(lock))
        if done.returncode:
            self._failures[folder] = f"cannot be installed: {_last_line(done.stderr)}"
            print(f"{folder} {self._failures[folder]}", file=sys.stderr)
        else:
            recorded.write_text(wanted)


def requirements(folder: str) -> Path:
    return ROOT / "requirements.lock" if folder == "ours" else HERE / "peers" / folder / "requirements.txt"


def pinned(folder: str) -> str:
    """The version of a peer, as its first requirement says."""
    match = re.search(r"==(\S+)", requirements(folder).read_text().splitlines()[0])
    return match[1] if match else ""


def is_usable(python: str) -> bool:
    """Whether environments can be made of it."""
    return _version(python) >= (3, 11)


def find_python() -> str:
    """The newest Python at hand, pyenv's included, whose names on PATH need not have a Python behind them."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.1[123].*/bin/python"), reverse=True)
    found = [path for name in _CANDIDATES if (path := shutil.which(name))]
    usable = {version: path for path in [*map(str, pyenv), *found] if (version := _version(path)) >= (3, 11)}
    return usable[max(usable)] if usable else sys.executable


def _version(python: str) -> tuple[int, int]:
    code = "import sys, venv; print(*sys.version_info[:2])"
    try:
        done = _run(python, "-c", code)
    except OSError:
        return 0, 0
    return (0, 0) if done.returncode else (int(done.stdout.split()[0]), int(done.stdout.split()[1]))


def _install(target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The pip of the Python that runs us works on the other environment: making one in each costs seconds.
    pip = [sys.executable, "-m", "pip", "--python", str(target / "bin" / "python"), "--disable-pip-version-check"]
    return _run(*pip, "install", "--quiet", *arguments)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]
