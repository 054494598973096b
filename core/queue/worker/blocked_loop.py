"""Names in the log what blocks the worker's event loop: a job that should have been no coroutine."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from types import FrameType

from core.job import Job, job_name
from core.queue.worker.service_thread import run_in_thread

_log = logging.getLogger("routemq.queue.worker")

_PROBES = 10
"""How often the loop is asked within the time that it may be blocked: how much longer a blocking may stay unseen."""


async def watch_loop(seconds: float) -> None:
    """Warn, once per blocking, when the running loop does nothing else for more than `seconds`.

    Raises nothing: a worker is better off without a watch than ended by it.
    """
    watch = _Watch(asyncio.get_running_loop(), seconds)
    try:
        await run_in_thread(watch.run, watch.stop, "blocked-loop")
    except Exception:
        _log.exception("the watch for a blocked event loop has ended; the worker goes on without it")


class _Watch:
    """Asks the loop for a sign of life, from a thread: the loop itself could not tell while it is blocked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._loop_thread = threading.get_ident()
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(self._seconds / _PROBES):
            alive = threading.Event()
            self._loop.call_soon_threadsafe(alive.set)
            if not alive.wait(self._seconds):
                self._warn()
                alive.wait()

    def _warn(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001, there is no other way to look
        stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)"
        _log.warning(
            "%s blocks the event loop for more than %g s: no other job of this worker gets on. Make its handle() a "
            'plain `def`, or set execution = "process". It is here:\n%s',
            _job_in(frame) or self._task_name(),
            self._seconds,
            stack,
        )

    def _task_name(self) -> str:
        task = asyncio.current_task(self._loop)
        return task.get_name() if task else "something"


def _job_in(frame: FrameType | None) -> str:
    """The job that the executor is running, whose locals hold it: found here, it costs the jobs nothing."""
    while frame is not None:
        job = frame.f_locals.get("job")
        if isinstance(job, Job):
            return f"{job_name(type(job))} {job.job_id}"
        frame = frame.f_back
    return ""
