"""What a child process is asked, until its answer is there: to set itself up, or to run one try of a job."""

from __future__ import annotations

import asyncio

from core.errors import JobError, JobProcessDiedError
from core.job import Job, job_name
from core.queue.state import FetchedJob
from core.queue.worker.limits import Limits, timed_out
from core.queue.worker.process_wire import FromChild, Setup, ToChild, Work

START_TIMEOUT = 60.0
"""Seconds that a child gets to import the app's jobs before it is killed: one that hangs there, on a server that
gives no answer for instance, would keep its place, and the lease of the job that waits for it, for ever."""


class Question:
    """`ended` is done once `outcome` is there: the answer, or why there is none."""

    def __init__(self, message: ToChild, timeout: float) -> None:
        self.message = message
        self.timeout = timeout
        """Seconds from when it comes to be the first that the child has to answer; 0 for no limit."""
        self.outcome: FromChild | JobError | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, outcome: FromChild | JobError) -> None:
        self.outcome = outcome
        if not self.ended.done():  # as it is where whoever waits was cancelled
            self.ended.set_result(None)

    def overdue(self, pid: int) -> JobError:
        """What the outcome is of its timeout."""
        raise NotImplementedError

    def died(self, pid: int, how: str) -> JobProcessDiedError:
        return JobProcessDiedError(f"the job's process {pid} {how}")


class SetupQuestion(Question):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, START_TIMEOUT)

    def overdue(self, pid: int) -> JobError:
        return self.died(pid, f"did not import the app's jobs within {self.timeout:g} s, and was killed")


class Try(Question):
    def __init__(self, fetched: FetchedJob, job: Job, limits: Limits) -> None:
        work = Work(fetched.job_id, fetched.queue, fetched.payload, fetched.attempts, limits.soft_timeout)
        super().__init__(work, limits.timeout)
        self._job = job

    def overdue(self, pid: int) -> JobError:
        return timed_out(self._job, self.timeout)

    def died(self, pid: int, how: str) -> JobProcessDiedError:
        return JobProcessDiedError(
            f"{job_name(type(self._job))} (try {self._job.attempts}): the job's process {pid} {how}"
        )
