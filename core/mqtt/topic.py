"""Topic filters: what is valid, what matches, and which makes another superfluous (MQTT 5, section 4.7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from core.errors import RouteError
from core.mqtt.filter_tree import FilterTree
from core.mqtt.message import Subscription

_SHARE = "$share/"
_MAX_BYTES = 65535
_MAX_QOS = 1
"""With QoS 2 the client library sends PUBREC on arrival, so that a crash would lose the message."""


def check_filter(topic_filter: str) -> None:
    """Raise RouteError unless a broker has to accept the filter (MQTT 5, sections 4.7.1, 4.7.3 and 4.8.2)."""
    problem = _problem_of(topic_filter)
    if problem:
        raise RouteError(f"The topic filter {topic_filter!r} is wrong: {problem}.")


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """`$share/<group>/<filter>` as group and filter; the group is None where the filter is not shared."""
    if not topic_filter.startswith(_SHARE):
        return None, topic_filter
    group, _, shared = topic_filter[len(_SHARE) :].partition("/")
    return group, shared


def share(group: str, topic_filter: str) -> str:
    """The filter under which the members of a group divide the messages among them."""
    return f"{_SHARE}{group}/{topic_filter}"


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a broker delivers `topic` to a subscriber of the filter, shared or not."""
    return _covers(split_share(topic_filter)[1].split("/"), topic.split("/"))


def covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches every topic that `narrow` matches, in the same group if they are shared."""
    wide_group, wide_filter = split_share(wide)
    narrow_group, narrow_filter = split_share(narrow)
    return wide_group == narrow_group and _covers(wide_filter.split("/"), narrow_filter.split("/"))


def reduced(subscriptions: Sequence[Subscription]) -> list[Subscription]:
    """The fewest of the subscriptions that bring the same messages, each at the highest QoS asked, 1 at most.

    A broker may deliver one copy for each subscription that matches (MQTT-3.3.4-2), and every copy would
    be handled. Filters that overlap only in part (`a/+` and `+/b`) cannot be reduced.
    """
    asked: dict[str, int] = {}
    for each in subscriptions:
        asked[each.topic_filter] = min(max(each.qos, asked.get(each.topic_filter, 0)), _MAX_QOS)
    covering = {topic_filter: list(found) for topic_filter, found in _covering_each(asked)}
    highest = dict.fromkeys(asked, 0)
    for narrow, wider in covering.items():
        for wide in wider:
            highest[wide] = max(highest[wide], asked[narrow])
    return [Subscription(each, highest[each]) for each, wider in covering.items() if wider == [each]]


def _covering_each(topic_filters: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Each filter with those that cover it, itself among them."""
    trees: dict[str | None, FilterTree] = defaultdict(FilterTree)
    split = [(each, *split_share(each)) for each in topic_filters]
    for topic_filter, group, plain in split:
        trees[group].add(topic_filter, plain.split("/"))
    for topic_filter, group, plain in split:
        yield topic_filter, trees[group].covering(plain.split("/"))


def _problem_of(topic_filter: str) -> str | None:
    group, plain = split_share(topic_filter)
    if group is not None and (not group or "+" in group or "#" in group):
        return "$share/ needs the name of a group, without wildcards"
    if not plain:
        return "it is empty"
    if "\x00" in plain or len(topic_filter.encode("utf-8", "replace")) > _MAX_BYTES:
        return f"a filter has no NUL and at most {_MAX_BYTES} bytes"
    return _wildcard_problem(plain.split("/"))


def _wildcard_problem(levels: list[str]) -> str | None:
    if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        return "+ and # stand for whole levels, so that each must be alone between slashes"
    if "#" in levels[:-1]:
        return "# stands for all that follows, so that it must come last"
    return None


def _covers(wide: list[str], narrow: list[str]) -> bool:
    if wide[0] in ("+", "#") and narrow[0].startswith("$"):
        return False  # MQTT-4.7.2-1: wildcards do not reach into $SYS and its like
    for position, level in enumerate(wide):
        if level == "#":
            return True
        if position == len(narrow) or narrow[position] == "#" or level not in ("+", narrow[position]):
            return False
    return len(wide) == len(narrow)
