"""The child processes of a worker: started when a job first needs them, and recycled.

A pool of our own, as that of the standard library cannot kill one child and go on.

For jobs that take a millisecond, what counts is how little is done for each. So a child has some jobs ahead, and while
it does, its answers are left to gather and are read in one go: the store then hears of them, and is asked for more, in
batches too. A job that lies ahead of one child while another is idle, or while a long job runs, is taken back, and
given to whichever has room next.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from core.clock import Backoff
from core.errors import JobError, JobProcessRaisedError
from core.job import Job
from core.queue.state import FetchedJob
from core.queue.worker.answer_pauses import AnswerPauses
from core.queue.worker.job_process import JobProcess
from core.queue.worker.limits import Limits
from core.queue.worker.process_question import Question, Try
from core.queue.worker.process_wire import Raised, Setup
from core.tasks import end_tasks

_log = logging.getLogger("routemq.queue.worker")

LONG = 0.05
"""Seconds after which a job is not to hold up what lies ahead of its process."""
MOST_TAKEN_BACK = 100
"""Jobs taken back from a process that it has yet to be told of, from which on it gets none and is replaced: they stay
in its socket until it starts the next, and a ticket cannot tell it to skip more than 255."""


class ProcessPool:
    """`run` a job in one of `size` processes; each is replaced after `max_jobs` jobs, and when it dies.

    `setup` is asked when a process starts.
    """

    def __init__(self, size: int, max_jobs: int, setup: Callable[[], Setup]) -> None:
        self._size = size
        self._max_jobs = max_jobs
        self._setup = setup
        self._waiting: deque[Question] = deque()
        self._processes: list[JobProcess] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._pauses = AnswerPauses()
        self._pause: asyncio.TimerHandle | None = None
        self._relief: asyncio.TimerHandle | None = None
        self._distributing: asyncio.Handle | None = None

    async def run(self, fetched: FetchedJob, job: Job, limits: Limits) -> None:
        """Run a try. Beyond its timeout, and when cancelled, its process is killed, and no other.

        Raises JobProcessRaisedError for what the job raised, JobProcessDiedError, and JobTimeoutError.
        """
        this = Try(fetched, job, limits)
        self._waiting.append(this)
        self._distribute_soon()
        try:
            await this.ended
        except asyncio.CancelledError:
            await self._withdraw(this)
            if this.outcome is None or isinstance(this.outcome, JobError):
                raise
        if isinstance(this.outcome, JobError):
            raise this.outcome
        if isinstance(this.outcome, Raised):
            answer = this.outcome
            raise JobProcessRaisedError(answer.message, answer.traceback, wants_retry=answer.wants_retry)

    async def close(self) -> None:
        """End the processes. Those whose job was cancelled are dead already."""
        await end_tasks(*self._starting)
        for process in self._processes.copy():
            self._retire(process)
        await asyncio.gather(*self._ending)

    # ── handing out ──────────────────────────────────────────────────────────────────────────────────

    def _distribute_soon(self) -> None:
        """Once all that comes in now has come in."""
        if self._distributing is None:
            self._distributing = asyncio.get_running_loop().call_soon(self._distribute)

    def _distribute(self) -> None:
        self._distributing = None
        for process in [each for each in self._processes if self._is_used_up(each)]:
            self._retire(process)
        self._take_for_idle()
        while self._waiting and (freest := self._freest()):
            freest.give(self._waiting.popleft())
        for process in self._processes:
            process.send()
        self._start_missing()
        self._listen()
        self._relieve_later()

    def _is_used_up(self, process: JobProcess) -> bool:
        return not process.asked and (process.given >= self._max_jobs or process.to_skip >= MOST_TAKEN_BACK)

    def _take_for_idle(self) -> None:
        """Where nothing waits, one process has nothing to do, and another has jobs ahead."""
        if not self._waiting and any(each.is_idle for each in self._processes):
            fullest = max(self._processes, key=_ahead)
            if fullest.ahead:
                self._take_back(fullest)

    def _freest(self) -> JobProcess | None:
        return min(filter(self._has_room, self._processes), key=_asked, default=None)

    def _has_room(self, process: JobProcess) -> bool:
        if process.is_doomed or process.given >= self._max_jobs or process.to_skip >= MOST_TAKEN_BACK:
            return False
        return len(process.asked) <= process.room_ahead

    def _relieve_later(self) -> None:
        if self._relief is None and any(map(_ahead, self._processes)):
            self._relief = asyncio.get_running_loop().call_later(LONG, self._relieve)

    def _relieve(self) -> None:
        """Take back what lies ahead of long jobs, however busy the other processes are."""
        self._relief = None
        for each in self._processes:
            if each.ahead and each.runs_for() >= LONG:
                self._take_back(each)
        self._relieve_later()

    def _take_back(self, process: JobProcess) -> None:
        self._put_back(process.take_back())

    def _put_back(self, questions: list[Question]) -> None:
        """They were first."""
        self._waiting.extendleft(reversed(questions))
        self._distribute_soon()

    async def _withdraw(self, this: Try) -> None:
        """Nobody waits for it any more: it is not to start or, if it runs, to end. It may just have been answered."""
        process = next((each for each in self._processes if this in each.asked), None)
        if process is not None:
            self._take_back(process)
            if this in process.asked:
                await process.kill()
        if this in self._waiting:
            self._waiting.remove(this)

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        """Take what answers there are."""
        busy = sum([bool(each.asked) for each in self._processes])
        self._pauses.have_read(sum([each.read() for each in self._processes]), busy)
        self._distribute()

    def _listen(self) -> None:
        """Look once there is an answer; of those that have jobs ahead, once some have gathered."""
        if self._pause is not None:
            self._pause.cancel()
        seconds = self._pauses.length(min(filter(None, map(_ahead, self._processes)), default=0))
        self._pause = asyncio.get_running_loop().call_later(seconds, self._look) if seconds else None
        for each in self._processes:
            each.listen(None if seconds and each.ahead else self._look)

    # ── coming and going ─────────────────────────────────────────────────────────────────────────────

    def _start_missing(self) -> None:
        unended = len(self._waiting) + sum(map(_asked, self._processes))
        for _ in range(min(self._size, unended) - len(self._processes) - len(self._starting)):
            task = asyncio.create_task(self._start(), name="start-job-process")
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self) -> None:
        """Start a process. That one does not come up is no fault of the jobs, which wait for the next attempt."""
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                process = await JobProcess.start(self._setup())
            except Exception as error:
                delay = backoff.next()
                _log.error("cannot start a process for jobs: %s; trying again in %.1f s", error, delay)
                await asyncio.sleep(delay)
            else:
                self._join(process)
                return

    def _join(self, process: JobProcess) -> None:
        self._processes.append(process)
        process.hand_back = self._put_back
        process.on_end = partial(self._leave, process)
        self._distribute_soon()

    def _leave(self, process: JobProcess) -> None:
        """It is dead."""
        if process in self._processes:
            self._processes.remove(process)
            self._distribute_soon()

    def _retire(self, process: JobProcess) -> None:
        self._processes.remove(process)
        task = asyncio.create_task(process.end(), name=f"end-job-process-{process.pid}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _asked(process: JobProcess) -> int:
    return len(process.asked)


def _ahead(process: JobProcess) -> int:
    return process.ahead
