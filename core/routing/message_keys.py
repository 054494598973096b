"""By what a route knows messages again, and by what it orders them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from core.clock import CENTURY, in_seconds
from core.errors import RouteError
from core.queue.ordering_key import key_text
from core.queue.origin import Origin
from core.queue.unique_key import digest
from core.routing.context import Context
from core.routing.message_part import MessagePart
from core.routing.pattern import Pattern

DEDUPLICATE_FOR = 3600.0
"""Seconds for which a message is known again where its route does not say: that is how long the store remembers it."""


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What a route or a group says, as it was given."""

    deduplicate_by: str | None = None
    deduplicate_for: float | timedelta | None = None
    ordered_by: str | None = None

    def within(self, group: KeyOptions) -> KeyOptions:
        """The same, with those of the group for what is left open."""
        return KeyOptions(
            group.deduplicate_by if self.deduplicate_by is None else self.deduplicate_by,
            group.deduplicate_for if self.deduplicate_for is None else self.deduplicate_for,
            group.ordered_by if self.ordered_by is None else self.ordered_by,
        )


@dataclass(frozen=True, slots=True)
class MessageKeys:
    deduplicate_by: MessagePart | None
    deduplicate_for: float
    """Seconds."""
    ordered_by: MessagePart | None

    @classmethod
    def of(cls, options: KeyOptions, pattern: Pattern, *, shared: bool) -> MessageKeys | None:
        """None where nothing is asked for. Raises RouteError for what cannot be."""
        if options.deduplicate_for is not None and options.deduplicate_by is None:
            raise RouteError("deduplicate_for says nothing without deduplicate_by; name a part of the message there")
        if options.deduplicate_by is None and options.ordered_by is None:
            return None
        return cls(
            _part("deduplicate_by", options.deduplicate_by, pattern),
            _seconds(options.deduplicate_for),
            _ordering_part(options.ordered_by, pattern, shared),
        )

    def ordering_key(self, context: Context) -> str | None:
        """The key of a message. Raises MessagePartError where it has none that can serve."""
        if self.ordered_by is None:
            return None
        value = self.ordered_by.of(context)
        try:
            return key_text(value)
        except ValueError as error:
            raise self.ordered_by.error(context, str(error)) from error

    def origin(self, context: Context, ordering_key: str | None) -> Origin:
        """What the dispatches of one try take over from a message. Raises MessagePartError where it lacks the part."""
        if self.deduplicate_by is None:
            return Origin(ordering_key=ordering_key)
        value = self.deduplicate_by.of(context)
        content = value if isinstance(value, bytes) else _encode(value)
        identity = digest(context.route.encode(), context.topic.encode(), self.deduplicate_by.text.encode(), content)
        return Origin(identity, self.deduplicate_for, ordering_key)


_encode = msgspec.json.Encoder(order="sorted").encode


def _part(option: str, text: str | None, pattern: Pattern) -> MessagePart | None:
    try:
        return None if text is None else MessagePart.parse(text, pattern)
    except RouteError as error:
        raise RouteError(f"{option}={text!r}: {error}") from error


def _ordering_part(text: str | None, pattern: Pattern, shared: bool) -> MessagePart | None:
    part = _part("ordered_by", text, pattern)
    if part is not None and shared:
        raise RouteError(
            f"ordered_by={text!r} cannot hold with shared=True: the broker spreads the messages of one key over the "
            "processes; leave out one of the two"
        )
    parameter = pattern.convertors.get(text or "")
    if parameter.type is float if parameter else text == "content":
        raise RouteError(f"ordered_by={text!r} is no text, whole number or UUID, as a key is; name another part")
    return part


def _seconds(given: float | timedelta | None) -> float:
    if given is None:
        return DEDUPLICATE_FOR
    seconds = in_seconds(given)
    if not 0 < seconds < CENTURY:
        raise RouteError(f"deduplicate_for={given!r} is not usable; give seconds above 0, up to a hundred years")
    return seconds
