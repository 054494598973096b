"""The program as it was before the envelope got its second version, out of the repository's history."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

from tests.project import ROOT

COMMIT = "d40f155627b3110bb80e5812e60c8bd0532a8ff0"
_PARTS = ("main.py", "core", "config", "migrations", "app")


@cache
def missing() -> str | None:
    """Why it cannot be had here, if so."""
    if shutil.which("git") is None:
        return "git is not on PATH"
    found = subprocess.run(["git", "cat-file", "-e", COMMIT], cwd=ROOT, capture_output=True, check=False)
    return "the repository's history is not here" if found.returncode else None


def unpack(directory: Path) -> Path:
    """Put it into `directory`; returns what is started."""
    archive = subprocess.run(["git", "archive", COMMIT, *_PARTS], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
    return directory / "main.py"
