"""A child process of a worker: runs the jobs with `execution = "process"` that it is given, one at a time.

`def handle` runs in the main thread, where a signal can interrupt it; `async def handle` on an event loop that
stands still in between. `dispatch()` works in both, through an Application that connects at its first use.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from select import poll
from typing import Any

from core.application import Application
from core.job import Job
from core.observability.logging import configure_logging, log_events
from core.queue.registry import JobRegistry
from core.queue.state import FetchedJob
from core.queue.traceback_text import encodable, traceback_text
from core.queue.worker.executor import as_exception, awaitable_of, is_coroutine_function, load
from core.queue.worker.process_wire import ChildEnd, Done, FromChild, Raised, Ready, Setup, ToChild, Work
from core.queue.worker.retry import wants_retry
from core.queue.worker.soft_timeout import interrupting_main_thread, run_coroutine


def main(connection: int, tickets: int) -> None:
    """Serve the worker at the other end of these sockets until it hangs up."""
    _leave_stopping_to_parent()
    with socket.socket(fileno=connection) as ours, socket.socket(fileno=tickets) as claims, suppress(ConnectionError):
        threading.Thread(target=_die_with_parent, args=(connection,), name="parent", daemon=True).start()
        worker = ChildEnd(ours, claims)
        messages = worker.messages()
        setup = next(messages, None)
        if isinstance(setup, Setup):
            # Settings as the parent has them, whatever .env says by now.
            _serve(worker, messages, Application(pickle.loads(setup.settings)))  # noqa: S301, by our own parent


def _leave_stopping_to_parent() -> None:
    """It decides how long a job may take to end. Handlers and not SIG_IGN, which programs started by a job
    would inherit."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda _signal, _frame: None)


def _die_with_parent(descriptor: int) -> None:
    """Wait until the parent's end of the socket is gone, as it is however the parent ends; a job that still runs
    then would run beside its next try."""
    hangup = poll()
    hangup.register(descriptor, 0)  # POLLHUP is always told
    hangup.poll()
    os.killpg(0, signal.SIGKILL)


def _serve(worker: ChildEnd, messages: Iterator[ToChild], app: Application) -> None:
    configure_logging(app.settings.logging.level, app.settings.logging.format)
    log_events(app.events)
    with asyncio.Runner() as runner:
        runner.run(_open(app))
        registry = app.jobs
        worker.answer(Ready())
        for work in messages:
            if isinstance(work, Work):
                worker.answer(_run(work, registry, runner))
        runner.run(app.__aexit__(None, None, None))


async def _open(app: Application) -> None:
    await app.__aenter__()
    if app.settings.queue.connection == "memory":
        await app.queues.close()  # the worker's queues are out of reach: dispatch() is to say so, not to lose jobs


def _run(work: Work, registry: JobRegistry, runner: asyncio.Runner) -> FromChild:
    job: Job | None = None
    try:
        job = load(FetchedJob(work.job_id, work.queue, work.payload, work.attempts, ""), registry)
        _handle(job, work.soft_timeout, runner)
    except BaseException as error:  # SystemExit, CancelledError: a job ends its try, not this process
        return _raised(job, as_exception(error))
    return Done()


def _handle(job: Job, soft_timeout: float, runner: asyncio.Runner) -> None:
    if is_coroutine_function(job.handle):
        result: Any = job.handle()
    else:
        with interrupting_main_thread(soft_timeout):
            result = job.handle()
    awaitable = awaitable_of(result, job)
    if awaitable is not None:
        runner.run(run_coroutine(awaitable, soft_timeout))


def _raised(job: Job | None, error: Exception) -> Raised:
    message = encodable(f"{type(error).__name__}: {error}")
    return Raised(message, traceback_text(error), wants_retry(job, error))
