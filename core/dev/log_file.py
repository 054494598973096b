"""The log of `--dev` goes to a file: in the terminal it would tear the view."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

_BYTES = 5_000_000


def log_to_file(path: Path) -> None:
    """Send the logs there from now on, in the format that they have. Keeps 10 MB at most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    file = RotatingFileHandler(path, maxBytes=_BYTES, backupCount=1, encoding="utf-8")
    for console in root.handlers[:]:
        file.setFormatter(console.formatter)
        root.removeHandler(console)
    root.addHandler(file)
