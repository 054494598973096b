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

    def python(self, folder: str) -> Path:
        if folder in self._failures:
            raise EnvironmentFailed(self._failures[folder])
        return CACHE / folder / "bin" / "python"

    def versions(self, folder: str) -> dict[str, str]:
        """What is installed: package → version."""
        if folder in self._failures:
            return {}
        listed = _pip(CACHE / folder, "freeze").stdout
        return dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)

    def _make(self, folder: str) -> None:
        target, lock = CACHE / folder, requirements(folder)
        recorded = target / "installed.txt"
        wanted = f"{self.base}\n{lock.read_text()}"
        if recorded.exists() and recorded.read_text() == wanted:
            return
        print(f"installing {folder}", file=sys.stderr)
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run([self.base, "-m", "venv", "--without-pip", target], check=True)
        options = ["--no-deps", "--require-hashes"] if folder == "ours" else []
        done = _pip(target, "install", "--quiet", *options, "-r", str(lock))
        if done.returncode:
            self._failures[folder] = f"cannot be installed: {_last_line(done.stderr)}"
        else:
            recorded.write_text(wanted)


def requirements(folder: str) -> Path:
    return ROOT / "requirements.lock" if folder == "ours" else HERE / "peers" / folder / "requirements.txt"


def pinned(folder: str) -> str:
    """The version of a peer, as its first requirement says."""
    match = re.search(r"==(\S+)", requirements(folder).read_text().splitlines()[0])
    return match[1] if match else ""


def find_python() -> str:
    """The newest Python at hand, pyenv's included, whose names on PATH need not have a Python behind them."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.1[123].*/bin/python"), reverse=True)
    found = [path for name in _CANDIDATES if (path := shutil.which(name))]
    usable = {version: path for path in [*map(str, pyenv), *found] if (version := _version(path)) >= (3, 11)}
    return usable[max(usable)] if usable else sys.executable


def _version(python: str) -> tuple[int, int]:
    code = "import sys, venv; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return (0, 0) if done.returncode else (int(done.stdout.split()[0]), int(done.stdout.split()[1]))


def _pip(target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The pip of the Python that runs us works on the other environment: making one in each costs seconds.
    command = [sys.executable, "-m", "pip", "--python", str(target / "bin" / "python"), "--disable-pip-version-check"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]
