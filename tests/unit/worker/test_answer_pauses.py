"""How long answers of child processes may gather."""

from __future__ import annotations

import pytest

from core.queue.worker.answer_pauses import LONGEST, PART, AnswerPauses


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pauses(clock: Clock) -> AnswerPauses:
    return AnswerPauses(clock)


def test_no_process_runs_dry(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.006
    pauses.have_read(6, busy=2)
    assert pauses.length(ahead=4) == pytest.approx(0.002 * 4 * PART)


def test_it_may_be_longer_once_there_is_more_ahead_but_not_for_ever(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.002
    pauses.have_read(1, busy=1)
    assert pauses.length(ahead=1) == pytest.approx(0.002 * PART)
    clock.now += 0.001
    assert pauses.length(ahead=2) == pytest.approx(0.004 * PART)
    assert pauses.length(ahead=20) == pytest.approx(LONGEST - 0.001)
    clock.now += LONGEST
    assert pauses.length(ahead=20) == 0


def test_none_where_a_process_has_nothing_ahead(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.01
    pauses.have_read(5, busy=2)
    assert pauses.length(ahead=0) == 0


def test_none_before_anything_has_ended_or_once_nothing_has_for_a_while(pauses: AnswerPauses, clock: Clock) -> None:
    assert pauses.length(ahead=5) == 0
    clock.now += 0.01
    pauses.have_read(5, busy=1)
    clock.now += LONGEST / 2
    pauses.have_read(0, busy=1)
    assert pauses.length(ahead=5) == pytest.approx(LONGEST / 2)
    clock.now += LONGEST / 2
    pauses.have_read(0, busy=1)
    assert pauses.length(ahead=5) == 0


def test_none_that_is_too_short_to_pay(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.001
    pauses.have_read(10, busy=1)
    assert pauses.length(ahead=5) == 0
