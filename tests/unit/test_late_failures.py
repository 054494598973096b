"""failed_jobs, made once somebody asks for it."""

from __future__ import annotations

import pytest

from core.queue.driver import FailureStore
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.late_failures import LateFailureStore


async def test_the_store_is_made_once_and_only_when_asked() -> None:
    made: list[FailureStore] = []

    def make() -> FailureStore:
        made.append(MemoryFailureStore())
        return made[-1]

    late = LateFailureStore(make)
    assert made == []
    assert await late.rows() == []
    assert await late.flush() == 0
    assert len(made) == 1


def test_an_attribute_error_of_the_maker_comes_out_as_it_is() -> None:
    def make() -> FailureStore:
        raise AttributeError("what makes it has a mistake")

    with pytest.raises(AttributeError, match="has a mistake"):
        LateFailureStore(make).rows  # noqa: B018
