"""Raises SoftTimeout inside a job that runs longer than its `soft_timeout`: once, for it to save what it has.

A coroutine gets it at the `await` where it stands; a thread, between two steps of its own Python code, so not
before a call into C (`time.sleep`, a socket) has returned; a child process, at once, by a signal.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from types import FrameType
from typing import Any

from core.errors import SoftTimeout


class _AtAwait(SoftTimeout, asyncio.CancelledError):
    """To what the job awaits, a cancellation like any other: a task group, for one, ends its tasks."""


async def run_coroutine(awaitable: Awaitable[object], soft_timeout: float) -> None:
    """Await a job's `handle`; `soft_timeout` is in seconds, 0 for none."""
    if not soft_timeout:
        await awaitable
        return
    interruptible = _Interruptible(awaitable)
    timer = asyncio.get_running_loop().call_later(soft_timeout, interruptible.interrupt)
    try:
        await interruptible
    except _AtAwait as error:
        raise SoftTimeout().with_traceback(error.__traceback__) from None
    finally:
        timer.cancel()
        interruptible.forget()


class _Interruptible:
    """Awaits for its task, and turns the cancellation that `interrupt` causes into SoftTimeout."""

    def __init__(self, awaitable: Awaitable[object]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101, whoever awaits is a task
        self._task = task
        self._cancelling = task.cancelling()
        self._awaitable = awaitable
        self._is_due = False

    def interrupt(self) -> None:
        self._is_due = True
        self._task.cancel()

    def forget(self) -> None:
        """Take back a cancellation that the job never saw, lest somebody else takes it for his."""
        if self._is_due:
            self._task.uncancel()

    def __await__(self) -> Generator[Any, Any, None]:
        inner: Any = self._awaitable.__await__()
        step: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                awaited = step()
            except StopIteration:
                return
            try:
                result = yield awaited
            except BaseException as error:
                step = partial(inner.throw, self._translated(error))
            else:
                step = partial(inner.send, result)

    def _translated(self, error: BaseException) -> BaseException:
        if not (self._is_due and isinstance(error, asyncio.CancelledError)):
            return error
        self._is_due = False
        # Where somebody else has cancelled the job as well, that comes first.
        return _AtAwait() if self._task.uncancel() <= self._cancelling else error


class ThreadCall:
    """A call in a thread, which `interrupt` raises SoftTimeout in. Runs in the context in which it was made."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._context = copy_context()
        self._function = function
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._is_interrupted = False

    def __call__(self) -> Any:
        self._thread = threading.get_ident()
        try:
            return self._context.run(self._function)
        finally:
            self._end()

    @contextmanager
    def interrupted_after(self, soft_timeout: float) -> Iterator[None]:
        """Around waiting for the call: interrupt it after `soft_timeout` seconds; 0 for never."""
        timer = asyncio.get_running_loop().call_later(soft_timeout, self.interrupt) if soft_timeout else None
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    def interrupt(self) -> None:
        with self._lock:
            if self._thread is not None:
                self._is_interrupted = True
                _raise_in_thread(self._thread, SoftTimeout)

    def _end(self) -> None:
        """From here on the thread is somebody else's: what is still on its way must not arrive."""
        with self._lock:
            thread, self._thread = self._thread, None
        if self._is_interrupted and thread is not None:
            _take_back(thread)


class _Taken(BaseException):
    """Takes the place of a SoftTimeout that is still on its way."""


def _take_back(thread: int) -> None:
    """Replace what is on its way to this thread, and let that arrive here.

    Taking it back by raising "nothing" would leave the interpreter (of 3.11 and 3.12) under the impression that
    something is on its way still: it would look for it at every step from then on, and, traced by a debugger or a
    coverage tool, never take another step.
    """
    try:
        _raise_in_thread(thread, _Taken)
        while True:
            pass
    except _Taken:
        pass


def _raise_in_thread(thread: int, error: type[BaseException]) -> None:
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


@contextmanager
def interrupting_main_thread(soft_timeout: float) -> Iterator[None]:
    """Raise SoftTimeout in a block of the main thread that takes longer than `soft_timeout` seconds; 0 for never.

    Uses SIGALRM, of which a process has one.
    """
    if not soft_timeout:
        yield
        return
    before = signal.signal(signal.SIGALRM, _raise_soft_timeout)
    signal.setitimer(signal.ITIMER_REAL, soft_timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _raise_soft_timeout(_signal: int, _frame: FrameType | None) -> None:
    raise SoftTimeout
