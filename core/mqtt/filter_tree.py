"""Topic filters by their levels, to find those that cover a given one without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    below: dict[str, _Node] = field(default_factory=dict)
    topic_filter: str | None = None
    """The filter that ends here."""


class FilterTree:
    """Of filters that are shared by one group, or by none."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, topic_filter: str, levels: Iterable[str]) -> None:
        node = self._root
        for level in levels:
            node = node.below.setdefault(level, _Node())
        node.topic_filter = topic_filter

    def covering(self, levels: list[str]) -> Iterator[str]:
        """The filters that match every topic that this one matches, itself among them (MQTT 5, section 4.7).

        Takes time by the number of nodes that match its beginning, not of those there are.
        """
        nodes = [self._root]
        for position, level in enumerate(levels):
            # MQTT-4.7.2-1: wildcards do not reach into $SYS and its like.
            wildcards = position > 0 or not level.startswith("$")
            if wildcards:
                yield from _ends(nodes, "#")
            nodes = [node.below[each] for node in nodes for each in _matching(level, wildcards) if each in node.below]
        yield from (node.topic_filter for node in nodes if node.topic_filter is not None)
        if levels[-1] != "#":
            yield from _ends(nodes, "#")


def _ends(nodes: list[_Node], level: str) -> Iterator[str]:
    for node in nodes:
        end = node.below.get(level)
        if end is not None and end.topic_filter is not None:
            yield end.topic_filter


def _matching(level: str, wildcards: bool) -> Iterable[str]:
    """The levels of a wider filter that stand for this one; `#` stands for all that follows, and ends a filter."""
    if level == "#":
        return ()
    return {level, "+"} if wildcards else (level,)
