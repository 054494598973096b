"""Takes the first step of a coroutine by itself: one that needs no second is done then, and nothing was set up for it.

A job that awaits nothing, or only what is there already, is such a one.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any


class Begun:
    """A coroutine that waits for something. Await this to have it go on."""

    def __init__(self, steps: Generator[Any, Any, Any], awaited: Any) -> None:
        self._steps = steps
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        while True:
            try:
                result = yield self._awaited
            except BaseException as error:
                step = partial(self._steps.throw, error)
            else:
                step = partial(self._steps.send, result)
            try:
                self._awaited = step()
            except StopIteration:
                return


def begin(coroutine: Coroutine[Any, Any, None]) -> Begun | None:
    """Run a coroutine up to where it waits for something; None where it came to its end on the way.

    Raises what it raises. Nothing may be awaited before what is returned.
    """
    steps = coroutine.__await__()
    try:
        return Begun(steps, next(steps))
    except StopIteration:
        return None
