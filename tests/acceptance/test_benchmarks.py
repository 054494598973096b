"""Benchmarks in a checkout that somebody uses: nothing of the user's reaches them, nor they it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "APP_PACKAGE": "nowhere",
    "DATABASE_URL": "sqlite:////nowhere/queue.sqlite3",
    "LOG_LEVEL": "nonsense",
    "MQTT_PORT": "nonsense",
    "QUEUE_CONNECTION": "redis",
    "QUEUE_LEASE": "nonsense",
    "REDIS_URL": "redis://127.0.0.1:1",
}
"""Each of which a contender would fail of."""
MEASURE = """
import sys
from pathlib import Path
from benchmarks.contenders import OURS
from benchmarks.servers import Servers
from benchmarks.stage import Stage

class Environments:
    def python(self, folder):
        return Path(sys.executable)

with Stage(Environments(), Servers(), True).performance(OURS, "sqlite", 2) as place:
    place.verb("prepare")
    place.verb("load", 0, 0, 2)
    with place.running() as worker:
        place.wait_for(0, 2, worker)
        place.check(0, 2)
print("measured")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("app", "benchmarks", "config", "core", "migrations", "tests"):
        unwanted = shutil.ignore_patterns(".environments", ".latest", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unwanted)
    shutil.copy(ROOT / "main.py", tmp_path)
    return tmp_path


@pytest.mark.timeout(240)  # some programs, one after the other, on a machine busy with other tests
@pytest.mark.parametrize("where", ["file", "environment"])
def test_no_setting_of_the_users_reaches_a_benchmark(checkout: Path, where: str) -> None:
    (checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in SETTINGS.items() if where == "file"))
    environment = os.environ | (SETTINGS if where == "environment" else {})
    command = [sys.executable, "-c", MEASURE]
    ran = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert ran.stdout == "measured\n", ran.stderr
