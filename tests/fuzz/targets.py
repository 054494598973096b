"""Everything of ours that takes bytes from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from tests.fuzz import connections, envelopes, frames, messages

Fuzz: TypeAlias = Callable[[Random, int], Iterator[bytes]]
"""Tries that many inputs, each of which it yields before it is tried. Raises where one was answered wrongly."""


@dataclass(frozen=True)
class Target:
    fuzz: Fuzz
    share: int
    """Of a hundred inputs."""


TARGETS = {
    "frames": Target(frames.fuzz, 52),
    "messages": Target(messages.fuzz, 27),
    "envelopes": Target(envelopes.fuzz, 20),
    "connections": Target(connections.fuzz, 1),
}


def shared_out(count: int, names: Sequence[str]) -> dict[str, int]:
    """How many of that many inputs each of these targets gets."""
    whole = sum(TARGETS[name].share for name in names)
    counts = {name: count * TARGETS[name].share // whole for name in names}
    counts[names[0]] += count - sum(counts.values())
    return counts
