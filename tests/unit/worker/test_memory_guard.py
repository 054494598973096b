"""The guard that ends a worker which has grown too large."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from core.observability.events import JobCompleted
from core.queue.worker import memory_guard
from tests.unit.worker.conftest import PROMPT, Workshop
from tests.unit.worker.test_worker import Note


async def test_a_guard_that_cannot_look_looks_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: Iterator[Exception | int] = iter([OSError("Too many open files"), ValueError("no number"), 2_000_000])

    def resident_bytes() -> int:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    monkeypatch.setattr(memory_guard, "resident_bytes", resident_bytes)
    monkeypatch.setattr(memory_guard, "INTERVAL", 0)
    stopped = asyncio.Event()
    await asyncio.wait_for(memory_guard.watch_memory(1, stopped.set), PROMPT)
    assert stopped.is_set()
    assert "Too many open files" in caplog.text


async def test_a_guard_that_cannot_look_leaves_its_worker_alone(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident_bytes() -> int:
        raise OSError("Too many open files")

    monkeypatch.setattr(memory_guard, "resident_bytes", resident_bytes)
    await workshop.dispatch(Note(text="done"))
    await workshop.work(memory=1)
    assert len(workshop.of(JobCompleted)) == 1
