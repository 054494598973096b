"""Bulk dispatch: while the store writes some jobs, the next are prepared. That takes as long as to write them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from core.job import Job, job_name
from core.observability.events import Events, JobDeduplicated, JobsDispatched
from core.queue import group_commit
from core.queue.dispatches import current_dispatches
from core.queue.state import NewJob
from core.tasks import start_task

_SLICE = 100
"""Jobs that are prepared in one go; then others, and the write among them, have their turn."""


class BulkDispatch:
    """Stores jobs in their order, chunk by chunk. `prepare` checks a job, and raises where it cannot be stored."""

    def __init__(self, prepare: Callable[[Job], NewJob], push: group_commit.Push, events: Events) -> None:
        self._prepare = prepare
        self._push = push
        self._events = events
        self._stored: list[str] = []

    async def run(self, jobs: Sequence[Job]) -> list[str]:
        """The ids of the jobs. What is raised has a note of how many are stored."""
        try:
            await self._store(jobs)
        except Exception as error:
            error.add_note(
                f"Of the {len(jobs)} jobs given to bulk(), the first {len(self._stored)} are stored, and have a "
                "job_id; the store did not confirm the others."
            )
            raise
        return self._stored

    async def _store(self, jobs: Sequence[Job]) -> None:
        writing: asyncio.Task[None] | None = None
        for start in range(0, len(jobs), group_commit.CHUNK_JOBS):
            part = jobs[start : start + group_commit.CHUNK_JOBS]
            try:
                prepared = await self._prepared(part)
            finally:  # also where one of these cannot be stored: those before them are
                if writing is not None:
                    await writing
            writing = start_task(self._write(part, prepared), "bulk-dispatch")
        if writing is not None:
            await writing

    async def _prepared(self, jobs: Sequence[Job]) -> list[NewJob]:
        prepared: list[NewJob] = []
        for start in range(0, len(jobs), _SLICE):
            await asyncio.sleep(0)
            prepared += map(self._prepare, jobs[start : start + _SLICE])
        return prepared

    async def _write(self, jobs: Iterable[Job], prepared: Sequence[NewJob]) -> None:
        rest, dispatches = iter(jobs), current_dispatches()
        for chunk in group_commit.chunks(prepared, _size):
            known = {} if dispatches is None else dispatches.standing_of(chunk)
            new = [each for each in chunk if each.job_id not in known] if known else chunk
            left_out = await self._push(new) if new else {}
            standing = {**known, **left_out}
            for each, job in zip(chunk, rest, strict=False):  # the chunk first: it must not swallow a job
                job.job_id = standing.get(each.job_id, each.job_id)
                self._stored.append(job.job_id)
                if dispatches is not None:
                    dispatches.stored(each.job_id, job.job_id)
                if each.job_id in left_out:
                    self._events.emit(JobDeduplicated(job.job_id, job_name(type(job)), each.queue))
            for name, count in Counter([each.queue for each in new if each.job_id not in left_out]).items():
                self._events.emit(JobsDispatched(name, count))


def _size(new: NewJob) -> int:
    return len(new.payload)
