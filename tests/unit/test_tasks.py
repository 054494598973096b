"""Waiting for the first of several things, and ending tasks."""

from __future__ import annotations

import asyncio

import pytest

from core import tasks
from core.tasks import end_tasks, first_of


class Waiting:
    """Waits for ever; tells whether it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def at_once() -> int:
    return 1


async def broken() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("first", [at_once, broken])
async def test_the_others_are_cancelled_once_one_has_ended(first: object) -> None:
    one, other = Waiting(), Waiting()
    await first_of(one.wait(), first(), other.wait())  # type: ignore[operator]
    assert (one.cancelled, other.cancelled) == (True, True)


async def test_a_task_of_the_callers_may_be_among_them() -> None:
    task = asyncio.create_task(at_once())
    waiting = Waiting()
    await first_of(task, waiting.wait())
    assert task.result() == 1
    assert waiting.cancelled


async def test_all_are_over_when_it_returns() -> None:
    async def slow_to_go() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            gone.append(True)

    gone: list[bool] = []
    await first_of(at_once(), slow_to_go())
    assert gone == [] or gone == [True]
    assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []


async def test_cancelling_it_cancels_all_of_them() -> None:
    one, other = Waiting(), Waiting()
    task = asyncio.create_task(first_of(one.wait(), other.wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (one.cancelled, other.cancelled) == (True, True)


async def test_ending_tasks_that_are_over_or_none_returns() -> None:
    task = asyncio.create_task(at_once())
    await task
    await end_tasks(task)
    await end_tasks()
    assert not task.cancelled()


async def test_what_an_ended_task_raises_is_its_own() -> None:
    async def breaking() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("no")

    task = asyncio.create_task(breaking())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert isinstance(task.exception(), ValueError)


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_INSIST_AFTER", 0.001)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert (task.cancelled(), swallowed) == (True, 3)
