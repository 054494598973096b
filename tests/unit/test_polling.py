"""The wake-up that looks again and again: one look that fails is not its end."""

from __future__ import annotations

import pytest

from core.queue.drivers.wake_up.polling import PollingWakeUp
from core.queue.drivers.wake_up.pushes import Pushes

LONG = 30.0


class _Lookout:
    """Fails, as often as it is told to; then sees a push."""

    def __init__(self, failures: int) -> None:
        self._failures = failures

    async def sees_push(self) -> bool:
        self._failures -= 1
        if self._failures >= 0:
            raise ZeroDivisionError("unforeseen")
        return True

    def close(self) -> None: ...


def _wake_up(lookout: _Lookout) -> PollingWakeUp:
    return PollingWakeUp(Pushes().wake_up(["default"]), lookout, 0.001, 0.001)


async def test_a_look_that_fails_has_seen_nothing() -> None:
    assert not await _wake_up(_Lookout(1000)).wait(0.02)


async def test_a_push_is_seen_once_looks_succeed_again(caplog: pytest.LogCaptureFixture) -> None:
    assert await _wake_up(_Lookout(5)).wait(LONG)
    assert [record.exc_info is not None for record in caplog.records] == [True], "told once, not at every look"


async def test_the_next_trouble_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    lookout = _Lookout(1)
    wake_up = _wake_up(lookout)
    for _ in range(2):
        lookout._failures = 1
        assert await wake_up.wait(LONG)
    assert len(caplog.records) == 2
