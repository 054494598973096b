"""The topic pattern of a route: literals, `{name}`, `{name:convertor}` and `{name:rest}`, level by level.

A pattern becomes an MQTT topic filter: a parameter is `+`, a rest is `#`. Raw `+` and `#` match as MQTT has
them (MQTT 5, section 4.7.1) and bind nothing. Anything else stands for itself: `a.b` is no expression.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from typing import Any, TypeAlias

from core.errors import RouteError
from core.mqtt.topic import check_filter
from core.routing.convertors import CONVERTORS, TEXT, Convertor

MAX_LEVELS = 200  # brokers refuse deeper topics; mosquitto draws the line here
PROVIDED = ("payload", "context", "client")
"""What a controller may ask for besides the parameters of its pattern."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Parameter:
    """One level, whatever it says, as far as the convertor takes it."""

    name: str | None
    convertor: Convertor = TEXT

    def __str__(self) -> str:
        return "+"

    def text(self, levels: Sequence[str], at: int) -> str:
        return levels[at]


@dataclass(frozen=True, slots=True)
class Rest:
    """All the levels that are left, none included."""

    name: str | None
    convertor: Convertor = TEXT

    def __str__(self) -> str:
        return "#"

    def text(self, levels: Sequence[str], at: int) -> str:
        return "/".join(levels[at:])


Segment: TypeAlias = Literal | Parameter | Rest


@dataclass(frozen=True)
class Pattern:
    text: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises RouteError: what is wrong with `text`, and what to write instead."""
        _check_text(text)
        pattern = cls(text, tuple(_segment(level) for level in text.split("/")))
        check_filter(pattern.topic_filter)
        _check_names([segment.name for segment in pattern.segments if not isinstance(segment, Literal)])
        return pattern

    @cached_property
    def topic_filter(self) -> str:
        """What to subscribe to."""
        return "/".join(map(str, self.segments))

    @cached_property
    def shape(self) -> str:
        """The pattern without its names: two routes of one shape would compete for every topic."""
        return "/".join(_shape(segment) for segment in self.segments)

    @cached_property
    def convertors(self) -> dict[str, Convertor]:
        """By the name of the parameter, in the order of the pattern."""
        return {name: segment.convertor for name, _, segment in self._named}

    def parameters(self, levels: Sequence[str]) -> dict[str, Any]:
        """The values of a topic that matches, converted as the pattern says."""
        return {name: segment.convertor.convert(segment.text(levels, at)) for name, at, segment in self._named}

    def text_of(self, name: str, levels: Sequence[str]) -> str:
        """One value, as it stands in the topic."""
        return next(segment.text(levels, at) for each, at, segment in self._named if each == name)

    @cached_property
    def _named(self) -> tuple[tuple[str, int, Parameter | Rest], ...]:
        return tuple(
            (segment.name, at, segment)
            for at, segment in enumerate(self.segments)
            if not isinstance(segment, Literal) and segment.name
        )


def _shape(segment: Segment) -> str:
    return f"{{{segment.convertor.name}}}" if isinstance(segment, Parameter) else str(segment)


def _segment(level: str) -> Segment:
    if level == "+":
        return Parameter(None)
    if level == "#":
        return Rest(None)
    if level.startswith("{") and level.endswith("}"):
        return _placeholder(level)
    return _literal(level)


def _literal(level: str) -> Literal:
    if set(level) & set("{}"):
        raise RouteError(f"{level!r} mixes a parameter with text; a parameter takes up a whole level: {{name}}")
    return Literal(level)


def _placeholder(level: str) -> Segment:
    name, _, kind = level[1:-1].partition(":")
    if not name.isidentifier() or iskeyword(name):
        raise RouteError(f"{level!r}: {name!r} cannot name a Python argument{_suggestion(name)}")
    if name in PROVIDED:
        raise RouteError(f"{level!r}: {name!r} is what RouteMQ itself passes to a controller; choose another name")
    if kind == "rest":
        return Rest(name)
    if ":" in level and kind not in CONVERTORS:
        raise RouteError(f"{level!r}: there is no type {kind!r}; use one of {', '.join(sorted(CONVERTORS))}, rest")
    return Parameter(name, CONVERTORS[kind or "str"])


def _suggestion(name: str) -> str:
    better = "".join(character if f"_{character}".isidentifier() else "_" for character in name).strip("_")
    return f"; write {{{better}}}" if better.isidentifier() and not iskeyword(better) else "; write a name, e.g. {id}"


def _check_text(text: str) -> None:
    if text.split("/", 1)[0] == "$share":
        raise RouteError("a pattern does not begin with $share; leave that out and pass shared=True")
    if text.count("/") >= MAX_LEVELS:
        raise RouteError(f"the pattern has more than {MAX_LEVELS} levels; brokers refuse that")
    if _has_surrogates(text):
        raise RouteError("the pattern is not valid UTF-8; remove the lone surrogate (MQTT 5, section 1.5.4)")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _check_names(names: Sequence[str | None]) -> None:
    for name, count in Counter(names).items():
        if name and count > 1:
            raise RouteError(f"the name {name!r} appears {count} times; give each parameter its own")
