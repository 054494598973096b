"""What a chaos run has done: an order, dispatched as a job of its kind or sent as a message that asks for one."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["plain", "thread", "process", "doomed", "keyed", "once", "held"]
"""plain    a coroutine.
thread   a plain function, which runs in a thread.
process  a plain function in a child process; on a queue of its own, as not every worker is to pay for one.
doomed   raises at every try: it is meant to be given up.
keyed    a coroutine that has to stay in order with those of the same key.
once     a coroutine that may be tried once only, and never fails.
held     a coroutine that does not end as long as the file HOLD is there.
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

    key: str = ""
    """Of one of the kind "keyed"."""
    once: bool = False
    """Whether it is sent or dispatched twice, and to become one job all the same."""
    relayed: bool = False
    """Whether its message takes a detour: the router publishes it again, to where those go that are `once`."""

    @property
    def fails(self) -> bool:
        return self.kind == "doomed"
