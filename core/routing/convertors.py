"""The types that a topic parameter may name, e.g. `int` in `{id:int}`: what they match, what they make of it.

A convertor is strict, so that a topic either is of its type or belongs to a less specific route:
Python's own `int()` would take "1_000", " 7" and "٣" as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

# No "+" in front: a topic cannot hold that character (MQTT 5, section 4.7.1).
_INT = re.compile(r"-?[0-9]{1,4000}", re.ASCII)  # int() refuses more than 4,300 digits
_FLOAT = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE]-?[0-9]+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Convertor:
    """One type of parameter. `rank` orders those that match the same level: the lowest is asked first."""

    name: str
    rank: int
    type: type[Any]
    matches: Callable[[str], bool]

    def convert(self, text: str) -> Any:
        return self.type(text)


def _matching(expression: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: expression.fullmatch(text) is not None


def _anything(_: str) -> bool:
    """MQTT's `+` matches any one level, the empty one too (MQTT 5, section 4.7.1.3)."""
    return True


TEXT = Convertor("str", 3, str, _anything)
CONVERTORS = {
    "uuid": Convertor("uuid", 0, UUID, _matching(_UUID)),
    "int": Convertor("int", 1, int, _matching(_INT)),
    "float": Convertor("float", 2, float, _matching(_FLOAT)),
    "str": TEXT,
}
