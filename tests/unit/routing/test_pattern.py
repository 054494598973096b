from __future__ import annotations

from uuid import UUID

import pytest

from core.errors import RouteError
from core.routing.convertors import CONVERTORS
from core.routing.pattern import MAX_LEVELS, Pattern


@pytest.mark.parametrize(
    ("text", "topic_filter"),
    [
        ("a", "a"),
        ("devices/{device_id}/status", "devices/+/status"),
        ("{site}/{id:int}", "+/+"),
        ("logs/{path:rest}", "logs/#"),
        ("{everything:rest}", "#"),
        ("a/+/b/#", "a/+/b/#"),
        ("/a//b/", "/a//b/"),
        ("$SYS/broker/{what}", "$SYS/broker/+"),
        ("größe/{id}", "größe/+"),
    ],
)
def test_a_pattern_becomes_a_topic_filter(text: str, topic_filter: str) -> None:
    assert Pattern.parse(text).topic_filter == topic_filter


def test_parameters_are_converted_as_the_pattern_says() -> None:
    pattern = Pattern.parse("{site}/{id:int}/{value:float}/{key:uuid}/{path:rest}")
    key = "12345678-1234-5678-1234-567812345678"
    assert pattern.parameters(["north", "-7", "1.5", key, "a", "b"]) == {
        "site": "north",
        "id": -7,
        "value": 1.5,
        "key": UUID(key),
        "path": "a/b",
    }


def test_raw_wildcards_bind_nothing() -> None:
    assert Pattern.parse("+/{id}/#").parameters(["x", "7", "y", "z"]) == {"id": "7"}


def test_a_rest_at_its_parent_level_is_empty() -> None:
    assert Pattern.parse("logs/{path:rest}").parameters(["logs"]) == {"path": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("{device-id}", "write {device_id}"),
        ("{}", "cannot name a Python argument"),
        ("{class}", "cannot name a Python argument"),
        ("{7}", "cannot name a Python argument"),
        ("{id:number}", "there is no type 'number'; use one of float, int, str, uuid, rest"),
        ("{id:}", "there is no type ''"),
        ("{payload}", "choose another name"),
        ("{context:int}", "choose another name"),
        ("{client:rest}", "choose another name"),
        ("pump-{id}", "takes up a whole level"),
        ("{id}x", "takes up a whole level"),
        ("{a}{b}", "cannot name a Python argument"),
        ("a}/b", "takes up a whole level"),
        ("a+/b", "must be alone between slashes"),
        ("a/b#", "must be alone between slashes"),
        ("#/a", "must come last"),
        ("{path:rest}/a", "must come last"),
        ("{id}/{id:int}", "appears 2 times"),
        ("$share/group/a", "pass shared=True"),
        ("$share", "pass shared=True"),
        ("a\0b", "no NUL"),
        ("a\ud800", "surrogate"),
        ("x" * 65_536, "at most 65535 bytes"),
        ("/".join("x" * (MAX_LEVELS + 1)), "more than 200 levels"),
    ],
)
def test_a_bad_pattern_is_refused_with_what_to_do(text: str, said: str) -> None:
    with pytest.raises(RouteError) as refused:
        Pattern.parse(text)
    assert said in str(refused.value)


def test_the_longest_and_the_deepest_patterns_are_taken() -> None:
    Pattern.parse("x" * 65_535)
    Pattern.parse("/".join("x" * MAX_LEVELS))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", ["0", "-7", "007"], ["", "1_000", " 1", "1.0", "٣", "0x1", "9" * 5000]),
        ("float", ["1", "-1.5", ".5", "1.", "1e3", "1e-3"], ["", "nan", "inf", "1_0.0", ".", "1e", " 1"]),
        ("uuid", ["12345678-1234-5678-1234-56781234ABCD"], ["", "1234567812345678123456781234abcd", "{1}"]),
        ("str", ["", "x", "1"], []),
    ],
)
def test_convertors_are_strict(kind: str, good: list[str], bad: list[str]) -> None:
    convertor = CONVERTORS[kind]
    assert [text for text in good + bad if convertor.matches(text)] == good
    assert all(isinstance(convertor.convert(text), convertor.type) for text in good)
