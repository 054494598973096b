from __future__ import annotations

from core.dev.rate import Rate


class SteppedClock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock, count = SteppedClock(), 0
    rate = Rate(lambda: count, over=5.0, clock=clock)  # type: ignore[arg-type]
    assert rate.now() == 0.0
    for _ in range(10):
        clock.seconds += 1
        count += 8
        assert rate.now() == 8.0
    for _ in range(6):
        clock.seconds += 1
        last = rate.now()
    assert last == 0.0
