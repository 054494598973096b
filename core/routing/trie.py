"""Finds what belongs to a topic by walking its levels: the cost does not grow with the number of routes.

At each level a literal goes before typed parameters, those before plain ones, and those before a rest; where
the more specific path leads nowhere, the walk comes back and takes the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from core.routing.convertors import Convertor
from core.routing.pattern import Literal, Parameter, Rest, Segment

Value = TypeVar("Value")


class _Node(Generic[Value]):
    __slots__ = ("literals", "parameters", "rest", "value")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Value]] = {}
        self.parameters: list[tuple[Convertor, _Node[Value]]] = []  # one per convertor, by rank
        self.value: Value | None = None
        self.rest: Value | None = None

    def find(self, levels: Sequence[str], depth: int) -> Value | None:
        if depth == len(levels):  # `sport/#` matches `sport` too (MQTT 5, section 4.7.1.2)
            return self.rest if self.value is None else self.value
        found = self.find_literal(levels, depth)
        return self._find_parameter(levels, depth) if found is None else found

    def find_literal(self, levels: Sequence[str], depth: int) -> Value | None:
        child = self.literals.get(levels[depth])
        return None if child is None else child.find(levels, depth + 1)

    def _find_parameter(self, levels: Sequence[str], depth: int) -> Value | None:
        for convertor, child in self.parameters:
            if convertor.matches(levels[depth]):
                found = child.find(levels, depth + 1)
                if found is not None:
                    return found
        return self.rest

    def child(self, segment: Literal | Parameter) -> _Node[Value]:
        if isinstance(segment, Literal):
            return self.literals.setdefault(segment.text, _Node())
        for convertor, child in self.parameters:
            if convertor is segment.convertor:
                return child
        return self._add_parameter(segment.convertor)

    def _add_parameter(self, convertor: Convertor) -> _Node[Value]:
        child: _Node[Value] = _Node()
        self.parameters.append((convertor, child))
        self.parameters.sort(key=lambda each: each[0].rank)
        return child


class Trie(Generic[Value]):
    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()

    def add(self, segments: Sequence[Segment], value: Value) -> None:
        node = self._root
        for segment in segments:
            if isinstance(segment, Rest):
                node.rest = value
                return
            node = node.child(segment)
        node.value = value

    def find(self, levels: Sequence[str]) -> Value | None:
        """The value of the most specific pattern that matches a topic, given as its levels."""
        if levels[0].startswith("$"):  # no wildcard in front matches these (MQTT-4.7.2-1)
            return self._root.find_literal(levels, 0)
        return self._root.find(levels, 0)
