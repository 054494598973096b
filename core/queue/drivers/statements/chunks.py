"""Jobs in batches that one statement can carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.queue.state import NewJob

ROWS = 1000
"""Jobs that one statement writes at most."""


def in_chunks(jobs: Sequence[NewJob], limit: int) -> Iterator[list[NewJob]]:
    """Slices in order, of `limit` bytes of payload at most, unless a single job has more."""
    chunk: list[NewJob] = []
    size = 0
    for job in jobs:
        if chunk and (size + len(job.payload) > limit or len(chunk) == ROWS):
            yield chunk
            chunk, size = [], 0
        chunk.append(job)
        size += len(job.payload)
    if chunk:
        yield chunk
