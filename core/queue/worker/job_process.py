"""A child process that runs jobs, one at a time, as its worker sees it.

It is a program of its own and no fork, so it inherits no connection, lock or thread. It leads a process group
of its own: Ctrl-C does not reach it, and whatever its job has started is killed with it.

It has some jobs ahead, so that it need not wait for the worker. Which of them a kill, or its death, concerns is found
out by taking back what it has not started, and then reading what it has answered: what is left is what it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Self

from core.errors import JobError
from core.queue.worker.process_question import Question, SetupQuestion
from core.queue.worker.process_wire import Setup, ToChild, WorkerEnd

_log = logging.getLogger("routemq.queue.worker")

PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from core.roles.job_process_role import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
"""The child looks for modules where its parent does, wherever either was started from."""

MOST_AHEAD = 20
"""Jobs that a process has beside the one that it runs."""

PATIENCE = 5.0
"""Seconds that a child gets to close its connections before it is killed."""


class JobProcess:
    """Made by `start`; `give` it questions; ended by `end` or, at once, by `kill`.

    `hand_back` is called with questions that it had ahead and never started, when it dies or is killed, as it is for
    a question that takes too long (without, they share its fate); `on_end` once it is dead and has no question left.
    """

    def __init__(self, process: Process, wire: WorkerEnd) -> None:
        self.asked: deque[Question] = deque()
        """The first is what it runs, the rest what it has ahead, as far as is known by now."""
        self.given = 0
        """How many jobs it has started, or is to start."""
        self.room_ahead = MOST_AHEAD
        """How many it may have ahead: none once some were taken back, and one more with each answer from then on."""
        self.is_doomed = False
        """Whether it is dead, or killed."""
        self.hand_back: Callable[[list[Question]], object] = self.asked.extend
        self.on_end: Callable[[], object] = lambda: None
        self._process = process
        self._wire = wire
        self._unsent: list[ToChild] = []
        self._timed: Question | None = None
        self._timed_from = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._killed_for: JobError | None = None
        self._is_to_end = False
        self._ended = asyncio.create_task(self._watch(), name=f"job-process-{process.pid}")

    @classmethod
    async def start(cls, setup: Setup) -> Self:
        """Start one, and wait until it has imported the app's jobs. Raises JobProcessDiedError where it cannot."""
        self = cls(*await _spawn())
        question = SetupQuestion(setup)
        try:
            self.give(question)
            self.send()
            self.listen(self.read)
            await question.ended
        except BaseException:
            await self.kill()
            raise
        if isinstance(question.outcome, JobError):
            raise question.outcome
        if self.is_doomed:  # since its answer
            await self.kill()
            raise question.died(self.pid, _end_of(self._process))
        self.given = 0
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_idle(self) -> bool:
        return not self.asked and not self.is_doomed

    @property
    def ahead(self) -> int:
        """How many it has beside the one that it runs."""
        return max(0, len(self.asked) - 1)

    @property
    def to_skip(self) -> int:
        """How many were taken back that it has yet to be told of."""
        return self._wire.to_skip

    def runs_for(self) -> float:
        """Seconds that it has run its present job, as far as is known."""
        return asyncio.get_running_loop().time() - self._timed_from

    def give(self, question: Question) -> None:
        """Follow the last by `send`."""
        self.given += 1
        self.asked.append(question)
        self._unsent.append(question.message)

    def send(self) -> None:
        if self._unsent:
            self._wire.send(self._unsent)
            self._unsent = []
            self._time_first()

    def listen(self, on_readable: Callable[[], object] | None) -> None:
        """Call this while there is something to `read`; None for nothing more."""
        self._wire.listen(None if self.is_doomed else on_readable)

    def read(self) -> int:
        """End the questions that are answered by now; how many they are."""
        answers = self._wire.receive()
        for answer in answers[: len(self.asked)]:  # a job that got hold of the socket may say more
            self.asked.popleft().end(answer)
            self.room_ahead = min(self.room_ahead + 1, MOST_AHEAD)
        if self._wire.is_cut:
            self._doom()  # where it lives on
        self._time_first()
        return len(answers)

    def take_back(self) -> list[Question]:
        """What it has not started, and now never will; the one question that it then may have, it runs."""
        unstarted = [self.asked.pop() for _ in range(self._wire.take_back())]
        self.given -= len(unstarted)
        if unstarted:
            self.room_ahead = 0
        self.read()
        return unstarted[::-1]

    async def kill(self) -> None:
        """Kill it and what its job has started; return once it is dead."""
        self._is_to_end = True
        self._doom()
        await asyncio.shield(self._ended)

    async def end(self) -> None:
        """Let it close its connections and end by itself."""
        if not self.is_doomed:
            self._is_to_end = True
            self.listen(None)
            self._wire.hang_up()
            await asyncio.wait({self._ended}, timeout=PATIENCE)
        await self.kill()

    def _doom(self) -> None:
        if self.is_doomed:
            return
        self.is_doomed = True
        self.listen(None)
        unstarted = self.take_back()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.hand_back(unstarted)

    def _time_first(self) -> None:
        """Start the clock of what it runs."""
        first = self.asked[0] if self.asked else None
        if first is self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed, self._timer = first, None
        loop = asyncio.get_running_loop()
        self._timed_from = loop.time()
        if first is not None and first.timeout:
            self._timer = loop.call_later(first.timeout, self._overdue, first)

    def _overdue(self, question: Question) -> None:
        self.hand_back(self.take_back())
        if question in self.asked:
            self._is_to_end = True
            self._killed_for = question.overdue(self.pid)
            self._doom()

    async def _watch(self) -> None:
        """Nobody answers for the dead: a process forked by the job may keep the socket open."""
        await self._process.wait()
        self._doom()
        self.read()
        if not self._is_to_end and not self.asked:  # else the job that it ran has the story
            _log.warning("the process %d for jobs %s; another takes its place", self.pid, _end_of(self._process))
        for question in self.asked:
            question.end(self._killed_for or question.died(self.pid, _end_of(self._process)))
        self.asked.clear()
        self._time_first()
        self._wire.close()
        self.on_end()


async def _spawn() -> tuple[Process, WorkerEnd]:
    with ExitStack() as unless_started:
        ours, theirs = (unless_started.enter_context(each) for each in socket.socketpair())
        tickets, unclaimed = (unless_started.enter_context(each) for each in socket.socketpair())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(unclaimed.fileno()), *sys.path),
            stdin=DEVNULL,
            pass_fds=[theirs.fileno(), unclaimed.fileno()],
            start_new_session=True,
        )
        unless_started.pop_all()
        theirs.close()
        return process, WorkerEnd(ours, tickets, unclaimed)


def _end_of(process: Process) -> str:
    code = process.returncode
    if code is None or code >= 0:
        return f"ended with exit code {code} before it was to"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
