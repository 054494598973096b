from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RouteError
from core.mqtt.message import Subscription
from core.mqtt.topic import check_filter, covers, matches, reduced, share, split_share

LEVEL = st.sampled_from(["a", "b", "", "$SYS"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTER = st.tuples(st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4), st.sampled_from(["", "/#"])).map(
    lambda parts: "/".join(parts[0]) + parts[1]
)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/B", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/+", "a/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/load", False),
        ("+/load", "$SYS/load", False),
        ("$SYS/#", "$SYS/load", True),
        ("a.b", "aXb", False),
        ("$share/group/a/+", "a/b", True),
    ],
)
def test_a_filter_matches_as_a_broker_matches(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("a/#", "a/+/b", True),
        ("a/#", "a", True),
        ("a/+", "a/b", True),
        ("a/+", "a/#", False),
        ("+/b", "a/+", False),
        ("#", "$SYS/#", False),
        ("a", "a", True),
        ("$share/g/a/#", "$share/g/a/b", True),
        ("$share/g/a/#", "$share/h/a/b", False),
        ("a/#", "$share/g/a/b", False),
    ],
)
def test_covers(wide: str, narrow: str, expected: bool) -> None:
    assert covers(wide, narrow) is expected


@given(FILTER, FILTER, TOPIC)
def test_whatever_the_narrow_filter_matches_the_one_that_covers_it_matches(wide: str, narrow: str, topic: str) -> None:
    if covers(wide, narrow) and matches(narrow, topic):
        assert matches(wide, topic)


@pytest.mark.parametrize("topic_filter", ["a", "+", "#", "a/+/b/#", "/", "$share/g/a/#", "a/ b/ü"])
def test_good_filters_pass(topic_filter: str) -> None:
    check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "problem"),
    [
        ("", "empty"),
        ("a/#/b", "come last"),
        ("a#", "alone"),
        ("a/b+", "alone"),
        ("a\x00b", "NUL"),
        ("a" * 65536, "65535"),
        ("$share//a", "name of a group"),
        ("$share/g+/a", "name of a group"),
        ("$share/g", "empty"),
    ],
)
def test_bad_filters_are_refused_with_the_reason(topic_filter: str, problem: str) -> None:
    with pytest.raises(RouteError, match=problem):
        check_filter(topic_filter)


def test_share_and_split_share_are_inverse() -> None:
    assert split_share(share("group", "a/#")) == ("group", "a/#")
    assert split_share("a/#") == (None, "a/#")


def test_of_overlapping_subscriptions_only_the_covering_one_stays_with_the_highest_qos() -> None:
    found = reduced([Subscription("a/b", 1), Subscription("a/#", 0), Subscription("c", 0), Subscription("c", 0)])
    assert found == [Subscription("a/#", 1), Subscription("c", 0)]


@given(FILTER, FILTER)
def test_two_filters_cover_each_other_only_if_they_are_one(one: str, other: str) -> None:
    assert one == other or not (covers(one, other) and covers(other, one))


@given(st.lists(st.builds(Subscription, FILTER | FILTER.map(lambda each: share("g", each)), st.integers(0, 1))))
def test_what_is_left_out_is_covered_by_what_stays_at_the_same_qos(wanted: list[Subscription]) -> None:
    asked: dict[str, int] = {}
    for each in wanted:
        asked[each.topic_filter] = max(each.qos, asked.get(each.topic_filter, 0))
    kept = [each for each in asked if not any(covers(other, each) for other in asked if other != each)]
    qos = {wide: max(asked[each] for each in asked if covers(wide, each)) for wide in kept}
    assert reduced(wanted) == [Subscription(each, qos[each]) for each in kept]


def test_a_filter_of_thousands_of_levels_is_reduced_as_well() -> None:
    deep = "/".join(["a"] * 5000)
    assert reduced([Subscription(deep), Subscription(f"{deep}/#"), Subscription("b")]) == [
        Subscription(f"{deep}/#"),
        Subscription("b"),
    ]


def test_a_shared_subscription_stays_beside_one_that_is_not() -> None:
    wanted = [Subscription("a/#", 1), Subscription("$share/g/a/b", 1)]
    assert reduced(wanted) == wanted


def test_pitfall_03_no_subscription_asks_for_qos_2() -> None:
    assert reduced([Subscription("a", 2)]) == [Subscription("a", 1)]
