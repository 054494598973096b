"""What a chaos run has done: an order, dispatched as a job of its kind or sent as a message that asks for one."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["plain", "thread", "process", "doomed", "held"]
"""plain    a coroutine.
thread   a plain function, which runs in a thread.
process  a plain function in a child process; on a queue of its own, as not every worker is to pay for one.
doomed   raises at every try: it is meant to be given up.
held     a coroutine that, in a worker with HOLD in its environment, never ends.
"""

QUEUES = ("chaos", "processes")


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    """What the ledger knows it by."""
    kind: Kind = "plain"
    seconds: float = 0.0
    """How long each try takes."""
    failures: int = 0
    """How many tries raise before one does the work."""
    delay: float = 0.0
    """Seconds until it is due."""

    @property
    def fails(self) -> bool:
        return self.kind == "doomed"
