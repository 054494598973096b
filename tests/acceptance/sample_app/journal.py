"""Where the sample's controllers and jobs tell the test what they did, from whatever process they ran in."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def write(what: str, **about: Any) -> None:
    """One line, in one write, so that processes do not tear each other's.

    `at` is the time of this machine's stores, `monotonic` the clock that all its processes share.
    """
    clocks = {"at": time.time(), "monotonic": time.monotonic()}
    line = json.dumps({"what": what, "pid": os.getpid(), **clocks, **about}) + "\n"
    descriptor = os.open(os.environ["SAMPLE_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def is_gate_open() -> bool:
    """The test opens the gate by making a file beside the journal."""
    return Path(os.environ["SAMPLE_JOURNAL"] + ".open").exists()
