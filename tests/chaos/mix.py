"""Orders of all kinds, as a run's random numbers have it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from random import Random

from tests.chaos.app.orders import Kind, Order

ALL_KINDS: dict[Kind, int] = {"plain": 70, "thread": 10, "process": 5, "doomed": 5, "keyed": 10}
"""How many of each among a hundred."""
WITHOUT_KEYS: dict[Kind, int] = {"plain": 80, "thread": 10, "process": 5, "doomed": 5}
KEYS = 20


class Mix:
    """Makes orders. One in eight is delayed, and one in eight fails once or twice before it is done."""

    def __init__(
        self, random: Random, kinds: dict[Kind, int], *, longest: float, longest_delay: float, once: float
    ) -> None:
        """`longest` is how many seconds a try takes at most, most take far less; `once` the part of the plain ones
        that are sent twice, and to become one job."""
        self._random = random
        self._kinds = list(kinds)
        self._weights = list(kinds.values())
        self._longest = longest
        self._longest_delay = longest_delay
        self._once = once
        self._numbers = count(1)

    def take(self, number: int) -> list[Order]:
        return [self._order() for _ in range(number)]

    def _order(self) -> Order:
        random = self._random
        (kind,) = random.choices(self._kinds, self._weights)
        is_keyed = kind == "keyed"  # a delay would not change its turn, but in which order it is dispatched
        return Order(
            id=f"o{next(self._numbers)}",
            kind=kind,
            seconds=round(self._longest * random.random() ** 4, 4),
            failures=random.choice((1, 2)) if random.random() < 1 / 8 else 0,
            delay=round(random.uniform(0.0, self._longest_delay), 3)
            if random.random() < 1 / 8 and not is_keyed
            else 0.0,
            key=f"k{random.randrange(KEYS)}" if is_keyed else "",
            once=kind == "plain" and random.random() < self._once,
        )


def shares(random: Random, whole: int, parts: int) -> Iterator[int]:
    """`parts` random numbers from 1, whose sum is `whole`; more where that is too little for so many."""
    whole = max(whole, parts)
    cuts = [0, *sorted(random.sample(range(1, whole), parts - 1)), whole]
    return (end - begin for begin, end in pairwise(cuts))
