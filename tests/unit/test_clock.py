"""Time, jitter and backoff."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import clock
from core.clock import Backoff, SystemClock, in_seconds, jittered


def test_now_is_the_present_moment_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta(0)


async def test_a_sleep_of_nothing_ends_and_time_never_goes_backwards() -> None:
    system = SystemClock()
    before = system.monotonic()
    await system.sleep(0)
    assert system.monotonic() >= before


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_jitter_stays_within_its_spread(seconds: float, spread: float) -> None:
    slack = seconds * 1e-9
    assert seconds * (1 - spread) - slack <= jittered(seconds, spread) <= seconds * (1 + spread) + slack


def test_jitter_spreads_a_herd() -> None:
    assert len({jittered(10.0) for _ in range(100)}) > 90


def test_jitter_reaches_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert jittered(8.0) == 6.0
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert jittered(8.0) == 10.0


def test_a_backoff_doubles_up_to_its_maximum_and_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "jittered", lambda seconds: seconds)
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 0.5


def test_a_backoff_is_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    backoff = Backoff(1.0, 2.0)
    assert [backoff.next() for _ in range(3)] == [1.25, 2.5, 2.5]


class _Exact(float):
    """As a library's own kind of number."""


def test_durations_are_numbers_of_seconds_or_timedeltas() -> None:
    given = [3, 0.5, _Exact(2.5), timedelta(minutes=1, milliseconds=5)]
    assert [in_seconds(each) for each in given] == [3, 0.5, 2.5, 60.005]
    assert all(isnan(in_seconds(each)) for each in ("3", True, None, [3]))
