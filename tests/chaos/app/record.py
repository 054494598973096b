"""Where the app's controllers and jobs tell the ledger what they see, from whatever process they run in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from core.job import Job
from tests.chaos.ledger import Ledger

PARENT = os.getppid()
"""In a child process for jobs: the worker. Of a child whose worker is dead, it would be another."""


@cache
def ledger() -> Ledger:
    """This process's file of the ledger in the directory LEDGER."""
    return Ledger(Path(os.environ["LEDGER"]))


@contextmanager
def one_try(job: Job, about: str, *, in_child: bool = False) -> Iterator[None]:
    """Writes down how a try begins and how it ends. `in_child`: it runs in a child, and dies with its worker."""
    process = PARENT if in_child else os.getpid()
    ledger().write("started", about, job=job.job_id, attempt=job.attempts, process=process)
    try:
        yield
    except BaseException:
        ledger().write("raised", about, job=job.job_id, attempt=job.attempts, process=process)
        raise
    ledger().write("done", about, job=job.job_id, attempt=job.attempts, process=process)
