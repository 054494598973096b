"""The sign of life for health checks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from core.observability import health
from core.observability.health import showing_health

real_sleep = asyncio.sleep
Turn = Callable[[], Awaitable[None]]


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Turn:
    """Lets one interval go by."""
    begun, over = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        assert seconds == health.INTERVAL
        begun.release()
        await over.acquire()

    async def turn() -> None:
        await begun.acquire()
        over.release()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return turn


async def test_the_file_is_there_while_the_program_runs_and_gone_after_it(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "run" / "deep" / "health"
    async with showing_health(str(file), lambda: True):
        await turn()
        assert file.exists()
    assert not file.exists()


async def test_the_file_is_touched_again_and_again(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "health"
    async with showing_health(str(file), lambda: True):
        await turn()
        await real_sleep(0)
        for _ in range(2):
            os.utime(file, (0, 0))
            await turn()
            await turn()
            assert file.stat().st_mtime > 0


async def test_the_file_is_left_to_age_while_the_program_is_ill(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "health"
    ill = asyncio.Event()
    async with showing_health(str(file), lambda: not ill.is_set()):
        await turn()
        ill.set()
        await turn()
        os.utime(file, (0, 0))
        await turn()
        await turn()
        assert file.stat().st_mtime == 0
        ill.clear()
        await turn()
        await turn()
        assert file.stat().st_mtime > 0


async def test_a_program_that_was_never_well_shows_no_file(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "health"
    async with showing_health(str(file), lambda: False):
        await turn()
        assert not file.exists()


async def test_without_a_file_nothing_runs() -> None:
    async with showing_health(None, lambda: pytest.fail("was asked")):
        assert [each for each in asyncio.all_tasks() if each.get_name() == "health"] == []


async def test_the_file_goes_when_the_program_fails(tmp_path: Path, turn: Turn) -> None:
    file = tmp_path / "health"

    async def failing() -> None:
        async with showing_health(str(file), lambda: True):
            await turn()
            raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke"):
        await failing()
    assert not file.exists()


async def test_a_file_that_cannot_be_touched_is_told_and_tried_again(
    tmp_path: Path, turn: Turn, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle = tmp_path / "obstacle"
    obstacle.write_text("a file where a directory should be")
    file = obstacle / "health"
    with caplog.at_level(logging.WARNING, "routemq"):
        async with showing_health(str(file), lambda: True):
            await turn()
            assert "APP_HEALTH_FILE" in caplog.text
            assert str(obstacle) in caplog.text
            obstacle.unlink()
            await turn()
            await turn()
            assert file.exists()
