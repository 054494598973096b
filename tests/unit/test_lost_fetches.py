"""Which tokens are asked for, and for how long: of fetches whose answer got lost."""

from __future__ import annotations

from contextlib import suppress

import pytest

from core.queue.drivers.lost_fetches import KEPT, MOST, LostFetches


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fetches(clock: Clock) -> LostFetches:
    return LostFetches(clock)


class LostError(Exception):
    """Stands for whatever comes in place of an answer."""


def lose(fetches: LostFetches, queue: str = "a", attempts: int = 1) -> list[str]:
    """A fetch that fails in its last attempt; the tokens of all of them."""
    tokens: list[str] = []
    with suppress(LostError), fetches.call(queue) as call:
        tokens += [call.attempt()[0] for _ in range(attempts)]
        raise LostError
    return tokens


def succeed(fetches: LostFetches, queue: str = "a") -> list[str]:
    """A fetch that is answered; the tokens that it asks for."""
    with fetches.call(queue) as call:
        return call.attempt()[1]


def test_a_fetch_that_is_answered_leaves_nothing_to_ask_for(fetches: LostFetches) -> None:
    assert [succeed(fetches), succeed(fetches)] == [[], []]


def test_what_is_lost_is_asked_for_on_its_queue_alone(fetches: LostFetches) -> None:
    lost = lose(fetches)
    assert succeed(fetches, "b") == []
    assert succeed(fetches, "a") == lost


def test_no_two_fetches_at_the_same_time_take_each_other_for_lost(fetches: LostFetches) -> None:
    with fetches.call("a") as one, fetches.call("a") as other:
        assert one.attempt()[1] == other.attempt()[1] == []


def test_what_a_later_attempt_of_the_same_fetch_asks_for_is_the_earlier_one(fetches: LostFetches) -> None:
    with fetches.call("a") as call:
        first, _ = call.attempt()
        assert call.attempt()[1] == [first]
    assert succeed(fetches) == [first]


def test_each_lost_attempt_is_asked_for(fetches: LostFetches) -> None:
    lost = lose(fetches, attempts=2) + lose(fetches)
    assert succeed(fetches) == lost


def test_it_is_asked_for_a_while_longer_once_there_was_an_answer(fetches: LostFetches, clock: Clock) -> None:
    lost = lose(fetches)
    clock.now = 1000.0
    assert succeed(fetches) == lost
    clock.now += KEPT
    assert succeed(fetches) == lost
    assert succeed(fetches) == []


def test_of_a_long_outage_the_first_are_kept(fetches: LostFetches) -> None:
    lost = [token for _ in range(MOST + 10) for token in lose(fetches)]
    assert succeed(fetches) == lost[:MOST]


def test_queues_with_something_lost_come_first_and_the_others_in_their_order(fetches: LostFetches) -> None:
    assert fetches.first(["c", "b", "a"]) == ["c", "b", "a"]
    lose(fetches, "a")
    assert fetches.first(["c", "b", "a"]) == ["a", "c", "b"]
