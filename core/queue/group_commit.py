"""Group commit: dispatches that are in flight together share one write.

While a write is under way, whatever else is dispatched gathers; the next write takes all of it. A lone
dispatch is written at once, so nothing is delayed for the sake of a fuller batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from core.errors import QueueUnavailableError
from core.queue.state import NewJob

CHUNK_JOBS = 1000
CHUNK_BYTES = 8 * 1024 * 1024
"""One write's bounds, so that no store is asked for more at once than it takes in one packet."""


Push: TypeAlias = Callable[[Sequence[NewJob]], Awaitable[Mapping[str, str]]]
"""That of a driver."""

_Waiting: TypeAlias = tuple[NewJob, "asyncio.Future[str]"]


class GroupCommit:
    """Gathers jobs for one driver's `push`.

    `limit` bounds the jobs that wait for their write; beyond it, `add` waits before it takes another.
    """

    def __init__(self, push: Push, limit: int) -> None:
        self._push = push
        self._room = asyncio.Semaphore(limit)
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, job: NewJob) -> str:
        """Return once the job is stored: its id, or that of the job that stands for it. Raise what the write raised."""
        async with self._room:
            entry = job, asyncio.get_running_loop().create_future()
            self._waiting.append(entry)
            self._start_writing()
            return await self._stored(entry)

    async def _stored(self, entry: _Waiting) -> str:
        try:
            return await entry[1]
        except asyncio.CancelledError:
            # Its room is given to another, so it must not wait here any longer.
            if entry in self._waiting:
                self._waiting.remove(entry)
            raise

    async def flush(self) -> None:
        """Wait until nothing is waiting for its write."""
        while self._writer is not None:
            await asyncio.shield(self._writer)

    def _start_writing(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="group-commit")

    async def _write(self) -> None:
        try:
            while self._waiting:
                part = next(chunks(self._waiting, lambda each: len(each[0].payload)))
                del self._waiting[: len(part)]
                await self._write_part(part)
        finally:
            self._writer = None
            for _, stored in self._waiting:  # only where this task was cancelled
                stored.cancel()

    async def _write_part(self, part: Sequence[_Waiting]) -> None:
        try:
            standing = await self._push([job for job, _ in part])
        except QueueUnavailableError as error:
            _refuse(part, error)
        except Exception as error:
            await self._write_singly(part, error)
        except BaseException:
            for _, stored in part:
                stored.cancel()
            raise
        else:
            _accept(part, standing)

    async def _write_singly(self, part: Sequence[_Waiting], error: Exception) -> None:
        """The store refused a batch: write its jobs one by one, so that only the culprit's dispatcher hears of it."""
        if len(part) == 1:
            _refuse(part, error)
            return
        for each in part:
            await self._write_part([each])


def _accept(part: Sequence[_Waiting], standing: Mapping[str, str]) -> None:
    for job, stored in part:
        if not stored.done():  # done where its dispatcher was cancelled meanwhile
            stored.set_result(standing.get(job.job_id, job.job_id) if standing else job.job_id)


def _refuse(part: Sequence[_Waiting], error: Exception) -> None:
    for _, stored in part:
        if not stored.done():
            stored.set_exception(error)


T = TypeVar("T")


def chunks(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """`items` in runs of at most CHUNK_JOBS and CHUNK_BYTES; a larger item stands alone."""
    start = total = 0
    for index, item in enumerate(items):
        bytes_ = size(item)
        if index > start and (index - start >= CHUNK_JOBS or total + bytes_ > CHUNK_BYTES):
            yield items[start:index]
            start, total = index, 0
        total += bytes_
    if items:
        yield items[start:]
