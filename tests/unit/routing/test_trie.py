from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.routing.pattern import Parameter, Pattern, Rest
from core.routing.trie import Trie


def _trie(*patterns: str) -> Trie[str]:
    trie: Trie[str] = Trie()
    for text in patterns:
        trie.add(Pattern.parse(text).segments, text)
    return trie


@pytest.mark.parametrize(
    ("patterns", "topic", "expected"),
    [
        (["a/b", "a/{x}", "a/{x:rest}"], "a/b", "a/b"),
        (["a/b", "a/{x}", "a/{x:rest}"], "a/c", "a/{x}"),
        (["a/b", "a/{x}", "a/{x:rest}"], "a/c/d", "a/{x:rest}"),
        (["{x:rest}", "a/{x}/c", "a/b/d"], "a/b/c", "a/{x}/c"),  # back from the literal `b`
        (["{x:rest}", "a/{x}/c", "a/b/d"], "a/b/e", "{x:rest}"),  # back to the start
        (["x/{i:int}", "x/{f:float}", "x/{u:uuid}", "x/{s}"], "x/7", "x/{i:int}"),
        (["x/{i:int}", "x/{f:float}", "x/{u:uuid}", "x/{s}"], "x/7.5", "x/{f:float}"),
        (["x/{i:int}", "x/{f:float}", "x/{u:uuid}", "x/{s}"], "x/seven", "x/{s}"),
        (["x/{i:int}/a", "x/{s}/b"], "x/7/b", "x/{s}/b"),  # typed, but the path ends there
        (["x/{i:int}"], "x/seven", None),
        (["sport/{x:rest}"], "sport", "sport/{x:rest}"),  # MQTT 5, section 4.7.1.2
        (["sport/{x:rest}", "sport"], "sport", "sport"),
        (["sport/{x:rest}"], "sports", None),
        (["sport/+"], "sport", None),
        (["sport/+"], "sport/", "sport/+"),  # section 4.7.1.3
        (["+"], "/finance", None),
        (["+/+"], "/finance", "+/+"),
        (["#", "+/x"], "$SYS/x", None),  # MQTT-4.7.2-1
        (["$SYS/#", "#"], "$SYS/x", "$SYS/#"),
        (["$SYS/+"], "$SYS/x", "$SYS/+"),
        (["a/#"], "a/$b", "a/#"),
        ([], "a", None),
    ],
)
def test_the_most_specific_route_is_found(patterns: list[str], topic: str, expected: str | None) -> None:
    assert _trie(*patterns).find(topic.split("/")) == expected
    assert _trie(*reversed(patterns)).find(topic.split("/")) == expected


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [("a.b", "aXb"), ("a(b", "a"), ("a*", "aaa"), ("^a$", "a"), ("a|b", "a"), ("\\w", "w")],
)
def test_pitfall_08_literals_are_no_regular_expressions(pattern: str, topic: str) -> None:
    assert _trie(pattern).find([topic]) is None
    assert _trie(pattern).find([pattern]) == pattern


def test_pitfall_08_raw_wildcards_match_as_they_subscribe() -> None:
    trie = _trie("a/+/c", "b/#")
    assert trie.find(["a", "anything", "c"]) == "a/+/c"
    assert trie.find(["b", "any", "thing"]) == "b/#"


def test_ten_thousand_routes_cost_no_more_steps_than_ten() -> None:
    assert _steps(10_000) == _steps(10)


def _steps(routes: int) -> int:
    """Python calls that one look-up makes, the same whatever else the machine does."""
    trie = _trie(*(f"site{number}/{{id:int}}/telemetry" for number in range(routes)), "{any:rest}")
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        trie.find(["site9", "7", "telemetry"])
        trie.find(["nowhere", "7", "telemetry"])
    finally:
        sys.setprofile(None)
    return len(calls)


# ── against a plain model: try every pattern, level by level, and take the most specific that matches ──

_LEVELS = st.sampled_from(["a", "b", "", "$x", "7", "1.5"])
_SEGMENTS = st.sampled_from(["a", "b", "", "$x", "7", "+", "{:int}", "{:float}"])
_RANKS = {"int": 1, "float": 2, "str": 3}


@st.composite
def _patterns(draw: st.DrawFn) -> str:
    levels = draw(st.lists(_SEGMENTS, min_size=1, max_size=4))
    levels += draw(st.sampled_from([[], ["#"]]))
    return "/".join(each.replace("{:", f"{{p{at}:") for at, each in enumerate(levels))


def _specificity(text: str, topic: str) -> tuple[int, ...] | None:
    """How specific a match is, the smaller the more; None where the pattern does not match."""
    pattern, levels = Pattern.parse(text), topic.split("/")
    if topic.startswith("$") and pattern.topic_filter[0] in "+#":
        return None
    ranks: list[int] = []
    for at, segment in enumerate(pattern.segments):
        if isinstance(segment, Rest):
            return (*ranks, 9)
        if at >= len(levels):
            return None
        if isinstance(segment, Parameter):
            if not segment.convertor.matches(levels[at]):
                return None
            ranks.append(_RANKS[segment.convertor.name])
        elif segment.text != levels[at]:
            return None
        else:
            ranks.append(0)
    return tuple(ranks) if len(levels) == len(pattern.segments) else None


@given(
    patterns=st.lists(_patterns().filter(bool), max_size=12, unique_by=lambda text: Pattern.parse(text).shape),
    topic=st.lists(_LEVELS, min_size=1, max_size=5).map("/".join).filter(bool),
)
def test_the_trie_agrees_with_a_plain_model(patterns: list[str], topic: str) -> None:
    ranked = [(_specificity(text, topic), text) for text in patterns]
    matching = sorted((rank, text) for rank, text in ranked if rank is not None)
    assert _trie(*patterns).find(topic.split("/")) == (matching[0][1] if matching else None)
