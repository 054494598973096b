"""MQTT's rules of topics and filters, as plainly as the specification words them (MQTT 5, section 4.7)."""

from __future__ import annotations

import re

_FILTER = re.compile(r"(([^+#/]*|\+)/)*([^+#/]*|\+|#)", re.DOTALL)


def is_filter(text: str) -> bool:
    """4.7.1: a wildcard is alone in its level, and `#` in the last one. 4.7.3: not empty, no NUL, 65,535 bytes."""
    is_text = 0 < len(text.encode("utf-8", "surrogatepass")) <= 65_535 and "\0" not in text
    return is_text and _FILTER.fullmatch(text) is not None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a broker sends a message on this topic to whoever subscribed to the filter."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False  # 4.7.2
    return _match(topic_filter.split("/"), topic.split("/"))


def _match(filter_levels: list[str], levels: list[str]) -> bool:
    if not filter_levels:
        return not levels
    first, *others = filter_levels
    if first == "#":
        return True  # 4.7.1.2: the parent level, and any number of those below
    if not levels:
        return False
    return first in ("+", levels[0]) and _match(others, levels[1:])  # 4.7.1.3: one level, which may be empty
