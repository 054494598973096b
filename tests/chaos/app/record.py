"""Where the app's controllers and jobs tell the ledger what they see, from whatever process they run in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from core.job import Job
from tests.chaos.app import census
from tests.chaos.ledger import Ledger, What, Where

PARENT = os.getppid()
"""In a child process for jobs: the worker. Of a child whose worker is dead, it would be another."""


@cache
def ledger() -> Ledger:
    """This process's file of the ledger in the directory LEDGER."""
    return Ledger(Path(os.environ["LEDGER"]))


@contextmanager
def one_try(job: Job, about: str, where: Where = "loop") -> Iterator[None]:
    """Writes down how a try begins and how it ends."""
    process = PARENT if where == "child" else os.getpid()
    if where != "child":
        census.tell()
    ledger().write("started", about, job=job.job_id, attempt=job.attempts, where=where, process=process)
    what: What = "cancelled"
    try:
        yield
        what = "done"
    except Exception:
        what = "raised"
        raise
    finally:
        ledger().write(what, about, job=job.job_id, attempt=job.attempts, process=process)
