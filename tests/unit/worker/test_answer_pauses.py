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
    assert pauses.next(answered=6, busy=2, ahead=4) == pytest.approx(0.002 * 4 * PART)


def test_a_pause_has_an_end(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 60
    assert pauses.next(answered=1, busy=1, ahead=10) == LONGEST


def test_none_where_a_process_has_nothing_ahead(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.01
    assert pauses.next(answered=5, busy=2, ahead=0) == 0


def test_none_while_nothing_ends(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.01
    assert pauses.next(answered=0, busy=2, ahead=5) == 0


def test_none_that_is_too_short_to_pay(pauses: AnswerPauses, clock: Clock) -> None:
    clock.now += 0.001
    assert pauses.next(answered=10, busy=1, ahead=5) == 0
