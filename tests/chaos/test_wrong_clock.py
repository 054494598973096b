"""A wrong clock is wrong, wherever it is asked, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.acceptance.program import PATIENCE, until
from tests.chaos.fleet import CLOCK
from tests.chaos.runs.clocks_wrong import FOLDER

PROGRAM = """
import json, time
from datetime import UTC, datetime
now = datetime.now(UTC)
print(json.dumps([time.time(), time.time_ns() / 1e9, now.timestamp(), time.monotonic(), type(now) is datetime]))
"""


def _told(clock: str) -> list[float]:
    env = {"PYTHONPATH": str(FOLDER), CLOCK: clock}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    told: list[float] = json.loads(ran.stdout)
    return told


@pytest.mark.parametrize("ahead", [600, -600])
def test_the_time_of_day_is_wrong_and_what_passes_is_not(ahead: int) -> None:
    begun, began = time.time(), time.monotonic()
    *times, passing, is_a_datetime = _told(str(ahead))
    assert all(begun + ahead <= each <= time.time() + ahead for each in times)
    assert began <= passing <= time.monotonic()
    assert is_a_datetime


def test_a_clock_jumps() -> None:
    def ahead() -> float:
        return _told("jumps")[0] - time.time()

    first = ahead()
    until(lambda: abs(ahead() - first) > 1, "a jump")
