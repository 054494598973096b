"""The program in a place of its own, as it looks for `.env` and keeps its files beside main.py."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("APP_", "MQTT_", "QUEUE_", "DATABASE_", "REDIS_", "LOG_", "MAIL_")


def clean_environment() -> dict[str, str]:
    """Ours, without any setting of RouteMQ's, nor of its tests'."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", *SETTINGS))}


def make_project(folder: Path) -> Path:
    """Put what is started, which is returned, and links to the rest into `folder`, where they are not there yet."""
    for name in ("core", "config", "app", "migrations"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    main = folder / "main.py"
    if not main.exists():  # a process may be about to read it
        shutil.copy(ROOT / "main.py", main)
    return main
