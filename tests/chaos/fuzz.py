"""Input from hostile hands, by the million: `python -m tests.chaos.fuzz --inputs 1000000 --seed 7`.

Ends with 1 at the first input that is answered by a crash, a hang, or no record; a seed repeats it.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import secrets
import sys
import time
from collections.abc import Callable
from random import Random

from tests.fuzz import targets

_HANG = 120.0
"""Seconds without an end of an input, on however busy a machine."""
_STEP = 1000
"""Inputs between two looks at the clock."""


class Failed(Exception):
    """An input that was answered wrongly."""


def run(name: str, count: int, seed: str, on_step: Callable[[], None] = lambda: None) -> None:
    """Try that many inputs on a target; `on_step` is called now and then. Raises Failed, with the input."""
    done, last = 0, b""
    try:
        for each in targets.TARGETS[name].fuzz(Random(f"{seed} {name}"), count):
            last = each
            if done % _STEP == 0:
                on_step()
            done += 1
    except Exception as error:
        shown = f"{last[:400]!r}{'…' if len(last) > 400 else ''} ({len(last)} bytes)"
        raise Failed(f"{name}, seed {seed}, input {done}: {error!r}\n{shown}") from error


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for all targets together; default: a million")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats an earlier time")
    parser.add_argument("--target", nargs="+", choices=targets.TARGETS, default=list(targets.TARGETS))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    begun = time.monotonic()
    for name, count in targets.shared_out(options.inputs, options.target).items():
        _run_watched(name, count, options.seed)
        print(f"{name}: {count:,} inputs", flush=True)
    took = f"{time.monotonic() - begun:.0f} s, seed {options.seed}"
    print(f"{options.inputs:,} inputs in {took}: no crash, no hang, no message without a record")


def _run_watched(name: str, count: int, seed: str) -> None:
    """A hang ends the process, with its stacks."""
    try:
        run(name, count, seed, on_step=lambda: faulthandler.dump_traceback_later(_HANG, exit=True))
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
    finally:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
