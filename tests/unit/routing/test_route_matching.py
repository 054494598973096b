"""Patterns and the trie against a plain model of MQTT: what a broker delivers for a route, that route or a stricter
one is found for, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.errors import NoRouteError, RouteError
from core.router import Router
from core.routing.pattern import Pattern
from core.routing.table import RouteTable
from tests import topic_model

LITERAL = st.sampled_from(["a", "b", "", "$SYS", "$x", ".*", "a.b"])
SEGMENT = st.one_of(LITERAL, st.sampled_from(["+", "{}", "{}"]))
REST = st.sampled_from([[], [], ["#"], ["{rest:rest}"]])
PATTERN = (
    st.tuples(st.lists(SEGMENT, max_size=4), REST).map(lambda parts: _numbered([*parts[0], *parts[1]])).filter(bool)
)
LEVEL = LITERAL | st.sampled_from(["z", "7"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=6).map("/".join).filter(bool)
ANYTHING = st.lists(
    st.sampled_from(["a", "{", "}", "{a}", "{b:int}", "{c:rest}", ":", "+", "#", "$share", "\0", "\ud800"])
    | st.text(max_size=3)
).map("".join)


def _numbered(levels: list[str]) -> str:
    return "/".join(f"{{p{at}}}" if level == "{}" else level for at, level in enumerate(levels))


async def _controller() -> None:
    """Declares nothing, so that any pattern will do."""


def _table(patterns: list[str]) -> RouteTable:
    router = Router()
    for each in patterns:
        router.on(each, _controller)
    return RouteTable([router])


def _found(table: RouteTable, topic: str) -> Pattern | None:
    try:
        return table.find(topic.split("/")).route.pattern
    except NoRouteError:
        return None


@given(st.lists(PATTERN, max_size=8, unique_by=lambda text: Pattern.parse(text).shape), TOPIC)
def test_a_route_is_found_for_every_topic_that_a_broker_delivers_for_one(patterns: list[str], topic: str) -> None:
    table = _table(patterns)
    delivered = [each for each in patterns if topic_model.matches(Pattern.parse(each).topic_filter, topic)]
    found = _found(table, topic)
    assert (found is not None) is bool(delivered)
    assert found is None or found.text in delivered
    subscribed = [each.topic_filter for each in table.all_subscriptions()]
    assert any(topic_model.matches(each, topic) for each in subscribed) is bool(delivered)


@given(st.lists(st.tuples(SEGMENT, LEVEL), max_size=4), st.lists(LEVEL, max_size=3))
def test_the_parameters_are_what_the_topic_says_in_their_place(levels: list[tuple[str, str]], rest: list[str]) -> None:
    pattern = Pattern.parse(_numbered([*(segment for segment, _ in levels), "{rest:rest}"]))
    topic = [level if segment in ("+", "{}") else segment for segment, level in levels]
    values = {f"p{at}": level for at, (segment, level) in enumerate(levels) if segment == "{}"}
    assert pattern.parameters([*topic, *rest]) == {**values, "rest": "/".join(rest)}


@given(ANYTHING)
def test_any_text_is_a_pattern_that_can_be_subscribed_to_or_is_refused(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except RouteError:
        return
    assert topic_model.is_filter(pattern.topic_filter)
    assert pattern.topic_filter.split("/")[0] != "$share"
