"""Runs one verb of a contender inside its environment: python contender.py VERB [NUMBERS …]

`peer`, a module found on PYTHONPATH, is the contender. It has what applies of: `prepare()`, `work()`, `left()`,
`dispatch(number)`, `bulk(numbers)`, and `session()`, an asynchronous context manager in which it dispatches.
The last line of standard output is the verb's result, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from importlib import import_module
from inspect import iscoroutinefunction
from itertools import islice
from time import monotonic
from typing import Any

AT_A_TIME = 100
PICKUP_PAUSE = 0.02  # seconds, in which an idle worker becomes idle again
LEFT_TRIES, LEFT_PAUSE = 50, 0.1  # seconds; completions may be written a little later than they happen


def peer() -> Any:
    return import_module("peer")


async def one(numbers: Iterable[int]) -> None:
    dispatch = _awaitable(peer().dispatch)
    for number in numbers:
        await dispatch(number)


async def hundred(numbers: Iterable[int]) -> None:
    """A hundred tasks, each of which dispatches one after the other."""
    shared = iter(numbers)
    await asyncio.gather(*(one(shared) for _ in range(AT_A_TIME)))


async def bulk(numbers: Iterable[int]) -> None:
    await _awaitable(peer().bulk)(list(numbers))


async def load(numbers: Iterable[int]) -> None:
    """The fastest of these ways that it has."""
    if hasattr(peer(), "bulk"):
        numbers = iter(numbers)
        while chunk := list(islice(numbers, 10_000)):
            await bulk(chunk)
    else:
        await (hundred if iscoroutinefunction(peer().dispatch) else one)(numbers)


async def timed(way: Callable[[Iterable[int]], Awaitable[None]], first: int, warm: int, end: int) -> dict[str, float]:
    """Jobs `first` to `warm` - 1 open connections and prepare statements; the clock runs for those up to `end`."""
    async with _session():
        await way(range(first, warm))
        begun = monotonic()
        await way(range(warm, end))
        return {"seconds": monotonic() - begun}


async def pickup(count: int) -> list[float]:
    """When each dispatch began; the first of them opens connections."""
    begun = []
    dispatch = _awaitable(peer().dispatch)
    async with _session():
        for number in range(count):
            await asyncio.sleep(PICKUP_PAUSE)
            begun.append(monotonic())
            await dispatch(number)
    return begun


async def left(expected: int) -> int:
    """How many jobs the store holds, once it is as many as expected, or after a while."""
    ask = _awaitable(peer().left)
    async with _session():
        found: int = await ask()
        for _ in range(LEFT_TRIES):
            if found == expected:
                break
            await asyncio.sleep(LEFT_PAUSE)
            found = await ask()
        return found


def _session() -> Any:
    return peer().session() if hasattr(peer(), "session") else nullcontext()


def _awaitable(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    if iscoroutinefunction(function):
        return function

    async def awaitable(*arguments: Any) -> Any:
        return function(*arguments)

    return awaitable


def _run(work: Any) -> Any:
    """On uvloop, where the contender's environment has it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def main(verb: str, *arguments: str) -> None:
    numbers = [int(each) for each in arguments]
    if verb in ("work", "prepare"):
        if hasattr(peer(), verb):
            getattr(peer(), verb)()  # `work` need not return: some are replaced by the contender's own program
        result = None
    elif verb == "left":
        result = _run(left(*numbers))
    elif verb == "pickup":
        result = _run(pickup(*numbers))
    else:
        result = _run(timed({"one": one, "hundred": hundred, "bulk": bulk, "load": load}[verb], *numbers))
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
