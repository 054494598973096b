"""Topic filters against a plain model of MQTT: all the small ones, and whatever comes to Hypothesis' mind."""

from __future__ import annotations

from functools import cache
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from core.errors import RouteError
from core.mqtt.filter_tree import FilterTree
from core.mqtt.message import Subscription
from core.mqtt.topic import check_filter, covers, matches, reduced, share
from tests import topic_model

LITERALS = ["a", "", "$x"]
TOPICS = ["/".join(levels) for count in (1, 2, 3, 4) for levels in product([*LITERALS, "z"], repeat=count)]
"""`z` is in no filter. The empty topic is among them: no broker sends one, and to match it does no harm."""
FILTERS = [
    "/".join([*levels, *rest])
    for count in (0, 1, 2, 3)
    for levels in product([*LITERALS, "+"], repeat=count)
    for rest in ([], ["#"])
    if "/".join([*levels, *rest])
]

ANY_LEVEL = st.sampled_from(["a", "b", "", "$SYS", "$", "+", "#", "a+", "#b", "ü", "\0", " "]) | st.text(max_size=3)
ANY_TEXT = st.lists(ANY_LEVEL, max_size=5).map("/".join)


@cache
def matched_by(topic_filter: str) -> frozenset[str]:
    return frozenset(topic for topic in TOPICS if topic_model.matches(topic_filter, topic))


def is_valid(text: str) -> bool:
    try:
        check_filter(text)
    except RouteError:
        return False
    return True


def test_every_small_filter_matches_what_the_model_matches() -> None:
    for each in FILTERS:
        assert frozenset(topic for topic in TOPICS if matches(each, topic)) == matched_by(each), each
        assert frozenset(topic for topic in TOPICS if matches(share("g", each), topic)) == matched_by(each), each


def test_one_filter_covers_another_where_it_matches_all_of_its_topics() -> None:
    """But `+/#` is not said to cover `#`, which is the same: it is enough that one of two covers the other."""
    for wide, narrow in product(FILTERS, FILTERS):
        truly = matched_by(wide) >= matched_by(narrow)
        assert covers(wide, narrow) is (truly and (wide, narrow) != ("+/#", "#")), (wide, narrow)


def test_the_tree_finds_the_filters_that_cover_one_and_no_others() -> None:
    tree = FilterTree()
    for each in FILTERS:
        tree.add(each, each.split("/"))
    for each in FILTERS:
        found = list(tree.covering(each.split("/")))
        assert sorted(found) == sorted(wide for wide in FILTERS if covers(wide, each)), each


@given(ANY_TEXT, ANY_TEXT)
def test_whatever_the_filter_it_matches_as_the_model_does(topic_filter: str, topic: str) -> None:
    if topic_model.is_filter(topic_filter):
        assert matches(share("group", topic_filter), topic) is topic_model.matches(topic_filter, topic)


@given(ANY_TEXT.filter(lambda text: not text.startswith("$share")))
def test_a_filter_is_refused_where_the_specification_has_none_like_it(text: str) -> None:
    assert is_valid(text) is topic_model.is_filter(text)


@given(st.integers(65_530, 65_540), st.sampled_from(["x", "ü", "x/"]))
def test_a_filter_may_be_as_long_as_its_length_can_be_written(size: int, unit: str) -> None:
    text = (unit * size)[:size] if unit.isascii() else unit * (size // 2)
    assert is_valid(text) is topic_model.is_filter(text)


@given(st.lists(st.builds(Subscription, st.sampled_from(FILTERS), st.integers(0, 1)), max_size=8))
def test_the_fewest_subscriptions_bring_the_same_topics_each_at_no_lower_qos(wanted: list[Subscription]) -> None:
    asked = {topic: max(each.qos for each in mine) for topic, mine in _by_topic(wanted).items()}
    kept = reduced(wanted)
    brought = {topic: max(each.qos for each in mine) for topic, mine in _by_topic(kept).items()}
    assert brought.keys() == asked.keys()
    assert all(brought[topic] >= asked[topic] for topic in asked)
    assert not any(covers(one.topic_filter, other.topic_filter) for one in kept for other in kept if one is not other)


def _by_topic(subscriptions: list[Subscription]) -> dict[str, list[Subscription]]:
    found: dict[str, list[Subscription]] = {}
    for each in subscriptions:
        for topic in matched_by(each.topic_filter):
            found.setdefault(topic, []).append(each)
    return found
