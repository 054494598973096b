"""Where fetches of a long queue begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.queue.drivers.statements.floors import LONGEST, Floors


class Table:
    """Jobs that are available, by their moment; and from where each fetch has looked for them."""

    def __init__(self, *moments: int) -> None:
        self.now = 0.0
        self.moments = list(moments)
        self.looked: list[int | None] = []
        self.floors = Floors(lambda: self.now)

    async def fetch(self, limit: int) -> list[int]:
        return [moment for (moment,) in await self.floors.fetch("q", limit, self._take)]

    async def _take(self, floor: Any, limit: int) -> Sequence[Any]:
        self.looked.append(floor)
        taken = [each for each in sorted(self.moments) if floor is None or each >= floor][:limit]
        for each in taken:
            self.moments.remove(each)
        return [(each,) for each in taken]


async def test_a_fetch_begins_where_the_last_one_did_that_was_filled() -> None:
    table = Table(*range(10))
    assert [await table.fetch(3) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert table.looked == [None, 0, 3]


async def test_one_that_is_not_filled_has_looked_from_the_front_as_well() -> None:
    table = Table(5, 6, 7, 8)
    await table.fetch(2)
    table.moments.append(1)
    assert await table.fetch(3) == [1, 7, 8]
    assert table.looked == [None, 5, None]
    assert await table.fetch(3) == []
    assert table.looked[3:] == [None]


async def test_after_a_second_a_fetch_begins_at_the_front_again() -> None:
    table = Table(*range(10, 20))
    await table.fetch(2)
    table.moments.append(1)
    table.now = LONGEST - 0.001
    assert await table.fetch(2) == [12, 13]
    table.now = LONGEST
    assert await table.fetch(2) == [1, 14]
    await table.fetch(1)
    assert table.looked == [None, 10, None, 1]


async def test_what_was_released_is_found_at_once() -> None:
    table = Table(*range(10, 20))
    await table.fetch(2)
    table.moments.append(1)
    table.floors.forget("q")
    assert await table.fetch(2) == [1, 12]


async def test_queues_have_floors_of_their_own() -> None:
    table = Table(*range(10, 20))
    await table.fetch(2)
    await table.floors.fetch("other", 2, table._take)
    assert table.looked == [None, None]


async def test_a_fetch_that_fails_moves_nothing() -> None:
    table = Table(*range(10, 20))
    await table.fetch(2)

    async def fail(floor: Any, limit: int) -> Sequence[Any]:
        raise LookupError("no table")

    with pytest.raises(LookupError, match="no table"):
        await table.floors.fetch("q", 2, fail)
    await table.fetch(2)
    assert table.looked == [None, 10]
