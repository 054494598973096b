"""Calling users' plain functions in threads."""

from __future__ import annotations

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
