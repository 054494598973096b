"""Calling users' plain functions in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def plainly(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call it. A StopIteration comes out as RuntimeError.

    A future cannot hold a StopIteration: up to Python 3.11, whoever awaits it would wait for ever.
    """
    try:
        return call(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError(f"{getattr(call, '__qualname__', call)} raised StopIteration") from error


def plainly_as(name: str, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """The same, in a thread that is called `name` meanwhile: so that one which does not end says what it runs."""
    thread = threading.current_thread()
    before, thread.name = thread.name, name
    try:
        return plainly(call, *args, **kwargs)
    finally:
        thread.name = before
