"""In which order a worker looks into its queues: strict, or by weight."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import SettingError


@dataclass(frozen=True)
class QueueOrder:
    """`a,b`: b only where a is empty. `a=3,b=1`: a first three times of four, so that b never starves."""

    names: tuple[str, ...]
    weights: tuple[float, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> QueueOrder:
        """Read what `--queue` was given. Raises SettingError that says what is wrong with it."""
        parts = [part.strip() for part in text.split(",")]
        pairs = [part.rpartition("=") if "=" in part else (part, "", "") for part in parts]
        names = tuple(name.strip() for name, _, _ in pairs)
        if not all(names):
            raise SettingError(
                f"--queue {text!r} names an empty queue; write `--queue emails,default` or `--queue a=3,b=1`."
            )
        if len(set(names)) != len(names):
            raise SettingError(f"--queue {text!r} names a queue twice; name each once.")
        weighted = [weight for _, equals, weight in pairs if equals]
        if not weighted:
            return cls(names)
        if len(weighted) != len(names):
            raise SettingError(f"--queue {text!r} gives only some queues a weight; give all of them one, or none.")
        return cls(names, tuple(_weight(text, weight) for weight in weighted))

    def __str__(self) -> str:
        """As `parse` reads it."""
        if self.weights is None:
            return ",".join(self.names)
        return ",".join(f"{name}={weight!r}" for name, weight in zip(self.names, self.weights, strict=True))

    def next(self) -> Sequence[str]:
        """The order for one fetch."""
        if self.weights is None:
            return self.names
        # Efraimidis and Spirakis: sorting by u^(1/w) draws without replacement, each in proportion to its weight.
        keys = {name: random.random() ** (1 / weight) for name, weight in zip(self.names, self.weights, strict=True)}
        return sorted(self.names, key=lambda name: keys[name], reverse=True)


def _weight(text: str, weight: str) -> float:
    try:
        value = float(weight)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise SettingError(
            f"--queue {text!r}: {weight!r} is no weight; give a number above 0, as in `--queue a=3,b=1`."
        )
    return value
