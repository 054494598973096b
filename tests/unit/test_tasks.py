"""Waiting for the first of several things, and ending tasks."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from core import tasks
from core.tasks import (
    cancel_for_stop,
    end_tasks,
    first_of,
    forget_cancellation,
    is_cancelled_for_stop,
    unless,
)


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
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                gone.append(True)

    begun, gone = asyncio.Event(), list[bool]()
    await first_of(begun.wait(), slow_to_go())
    assert gone == [True]
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


# ── work that may be given up ────────────────────────────────────────────────────────────────────────────


async def test_work_that_ends_before_the_event_came_to_its_end() -> None:
    assert await unless(asyncio.Event(), at_once())


async def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="no"):
        await unless(asyncio.Event(), broken())


async def test_work_is_over_when_it_was_given_up() -> None:
    event, waiting = asyncio.Event(), Waiting()
    task = asyncio.create_task(unless(event, waiting.wait()))
    await asyncio.sleep(0)
    event.set()
    assert await task is False
    assert waiting.cancelled


async def test_what_work_raises_while_it_is_given_up_is_of_no_interest() -> None:
    async def breaking() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("no")

    event = asyncio.Event()
    event.set()
    assert not await unless(event, breaking())


async def test_cancelling_the_wait_ends_the_work() -> None:
    waiting = Waiting()
    task = asyncio.create_task(unless(asyncio.Event(), waiting.wait()))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting.cancelled


# ── who cancelled ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancellation_for_a_stop_is_told_from_any_other() -> None:
    async def look() -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return is_cancelled_for_stop()
        return False

    ours, anothers = asyncio.create_task(look()), asyncio.create_task(look())
    await asyncio.sleep(0)
    cancel_for_stop(ours)
    anothers.cancel()
    assert (await ours, await anothers) == (True, False)


async def test_a_cancellation_can_be_forgotten() -> None:
    async def cancelled_twice() -> int:
        task = asyncio.current_task()
        assert task
        for _ in range(2):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        forget_cancellation()
        return task.cancelling()

    assert await asyncio.create_task(cancelled_twice()) == 0
