from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.controller import Controller
from core.errors import RouteError
from core.middleware import Middleware, NextHandler
from core.router import Router
from core.routing.context import Context


class Outer(Middleware):
    async def handle(self, context: Context, next_handler: NextHandler) -> Any:
        return await next_handler(context)


class Inner(Outer):
    pass


class NeedsArguments(Outer):
    def __init__(self, needed: int) -> None:
        self.needed = needed


class Devices(Controller):
    @staticmethod
    async def status(device_id: str) -> None: ...

    @classmethod
    async def seen(cls, device_id: str) -> None: ...

    async def reading(self, device_id: str, payload: bytes) -> None: ...


class Parent(Controller):
    async def status(self) -> None: ...


class Child(Parent):
    pass


class NeedsDatabase(Controller):
    def __init__(self, database: object) -> None:
        self.database = database

    async def status(self) -> None: ...


class Answering:
    async def __call__(self, device_id: str) -> None: ...


async def handler() -> None: ...


def positional(payload: bytes, /) -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def test_a_route_keeps_what_it_was_given() -> None:
    router = Router()
    router.on("a/{id}", handler, qos=0, shared=True, worker_count=3, middleware=[Inner()])
    (route,) = router.routes
    assert (route.pattern.topic_filter, route.qos, route.shared, route.worker_count) == ("a/+", 0, True, 3)
    assert route.handler is handler
    assert route.handler_name == "handler"
    assert [type(layer) for layer in route.middleware] == [Inner]
    assert Path(route.where.rpartition(":")[0]).name == "test_router.py"


def test_the_defaults_are_qos_1_and_not_shared() -> None:
    router = Router()
    router.on("a", handler)
    (route,) = router.routes
    assert (route.qos, route.shared, route.worker_count, route.middleware) == (1, False, 1, ())


def test_groups_nest_with_prefix_and_middleware_outermost_first() -> None:
    router = Router()
    outer, inner = Outer(), Inner()
    with router.group(prefix="sites/{site}", middleware=[outer]) as sites:
        sites.on("state", handler)
        with sites.group("pumps/", middleware=[inner]) as pumps:
            pumps.on("/{pump:int}", handler, middleware=[Outer])
            pumps.on("", handler)
    router.on("alone", handler)
    assert [route.pattern.text for route in router.routes] == [
        "sites/{site}/state",
        "sites/{site}/pumps/{pump:int}",
        "sites/{site}/pumps/",
        "alone",
    ]
    assert router.routes[1].middleware[:2] == (outer, inner)
    assert type(router.routes[1].middleware[2]) is Outer
    assert router.routes[3].middleware == ()


def test_a_middleware_class_is_made_once_per_group() -> None:
    router = Router()
    with router.group(middleware=[Outer]) as group:
        group.on("a", handler)
        group.on("b", handler)
    assert router.routes[0].middleware[0] is router.routes[1].middleware[0]


@pytest.mark.parametrize(
    "given",
    [
        Devices.status,
        Devices.seen,
        Devices().reading,
        Devices.reading,
        Answering(),
        functools.partial(Devices.status),
        lambda device_id: None,
        lambda **parameters: None,
        lambda device_id, unknown=1, *more: None,
    ],
)
def test_handlers_of_every_kind_are_taken(given: Any) -> None:
    router = Router()
    router.on("devices/{device_id}", given)
    assert callable(router.routes[0].handler)


def test_a_method_named_through_its_class_gets_an_instance() -> None:
    router = Router()
    router.on("devices/{device_id}", Devices.reading)
    assert isinstance(router.routes[0].handler.__self__, Devices)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Child.status, "Devices().status"),  # Parent or Child? Python does not tell
        (NeedsDatabase.status, "needs a NeedsDatabase"),
        (Answering.__call__, "expects a `self`"),  # not a Controller
        (Devices, "pass a function or a method"),
        (Devices.status("7").close(), "pass a function or a method, without calling it"),
        ("Devices.status", "pass a function or a method"),
        (positional, "remove the `/`"),
        (max, "wrap it in a function"),
        (generator, "contains `yield`"),
        (async_generator, "contains `yield`"),
        (lambda pump: None, "'pump', which the pattern does not have; available are device_id, payload"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused(given: Any, said: str) -> None:
    with pytest.raises(RouteError) as refused:
        Router().on("devices/{device_id}", given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"qos": 2}, "use qos=1"),
        ({"qos": 3}, "use 0 or 1"),
        ({"qos": -1}, "use 0 or 1"),
        ({"worker_count": 0, "shared": True}, "at least one process"),
        ({"worker_count": 3}, "without shared=True"),
        ({"middleware": [NeedsArguments]}, "pass an instance"),
        ({"middleware": [handler]}, "derive it from core.middleware.Middleware"),
        ({"middleware": [Controller]}, "derive it from core.middleware.Middleware"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RouteError) as refused:
        Router().on("a", handler, **options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deduplicate_by": ""}, "deduplicate_by='': it names no part of a message"),
        ({"deduplicate_by": "payload."}, "deduplicate_by='payload.': it names no part of a message"),
        ({"deduplicate_by": 7}, "deduplicate_by=7: it names no part of a message"),
        ({"ordered_by": "a..b"}, "ordered_by='a..b': it names no part of a message"),
        ({"deduplicate_by": "id", "deduplicate_for": 0}, "deduplicate_for=0 is not usable; give seconds above 0"),
        ({"deduplicate_by": "id", "deduplicate_for": "1h"}, "deduplicate_for='1h' is not usable; give seconds above 0"),
        ({"deduplicate_by": "id", "deduplicate_for": -1}, "deduplicate_for=-1 is not usable"),
        ({"deduplicate_by": "id", "deduplicate_for": float("inf")}, "deduplicate_for=inf is not usable"),
        ({"deduplicate_for": 60}, "deduplicate_for says nothing without deduplicate_by"),
        ({"ordered_by": "id", "deduplicate_for": 60}, "deduplicate_for says nothing without deduplicate_by"),
        ({"ordered_by": "content"}, "ordered_by='content' is no text, whole number or UUID"),
        ({"ordered_by": "level"}, "ordered_by='level' is no text, whole number or UUID"),
        ({"ordered_by": "pump", "shared": True}, "the broker spreads the messages of one key over the processes"),
    ],
)
def test_bad_keys_are_refused_with_file_and_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RouteError) as refused:
        Router().on("pumps/{pump}/{level:float}", handler, **options)
    assert said in str(refused.value)
    assert re.match(r".*test_router\.py:\d+: pattern 'pumps/", str(refused.value))


def test_a_route_asks_for_no_keys_unless_it_says_so() -> None:
    router = Router()
    router.on("a", handler)
    assert router.routes[0].keys is None


def test_keys_are_kept_with_an_hour_as_the_default() -> None:
    router = Router()
    router.on("a/{id}", handler, deduplicate_by="id", ordered_by="payload.pump")
    router.on("b/{id}", handler, deduplicate_by="content", deduplicate_for=timedelta(minutes=1), shared=True)
    first, second = (route.keys for route in router.routes)
    assert first and first.deduplicate_by and first.ordered_by and second
    assert (first.deduplicate_by.text, first.deduplicate_for, first.ordered_by.text) == ("id", 3600.0, "payload.pump")
    assert (second.deduplicate_for, second.ordered_by) == (60.0, None)


def test_what_a_route_does_not_say_its_group_does() -> None:
    router = Router()
    with router.group("a", deduplicate_by="id", deduplicate_for=60) as outer:
        outer.on("1", handler)
        with outer.group("b", ordered_by="pump") as inner:
            inner.on("2", handler, deduplicate_for=5)
            inner.on("3", handler, deduplicate_by="content")
            with pytest.raises(RouteError, match="shared=True"):
                inner.on("4", handler, shared=True)
    router.on("5", handler)
    keys = [route.keys for route in router.routes]
    said = [(each.deduplicate_by, each.deduplicate_for, each.ordered_by) for each in keys if each]
    assert [tuple(getattr(part, "text", part) for part in each) for each in said] == [
        ("id", 60, None),
        ("id", 5, "pump"),
        ("content", 60, "pump"),
    ]
    assert keys[3] is None


def test_pitfall_03_qos_2_is_refused() -> None:
    with pytest.raises(RouteError, match="qos=2 would lose messages"):
        Router().on("a", handler, qos=2)


@pytest.mark.parametrize("name", ["payload", "context", "client"])
def test_pitfall_08_a_parameter_cannot_take_a_name_that_is_provided(name: str) -> None:
    with pytest.raises(RouteError, match="choose another name"):
        Router().on(f"a/{{{name}}}", handler)


def test_pitfall_08_a_name_that_is_no_python_name_is_refused_at_once() -> None:
    with pytest.raises(RouteError, match=r"write \{device_id\}"):
        Router().on("devices/{device-id}", handler)


def test_an_error_names_file_line_and_the_whole_pattern() -> None:
    with pytest.raises(RouteError) as refused, Router().group(prefix="sites") as sites:
        sites.on("{site:nowhere}", handler)
    place, _, rest = str(refused.value).partition(": ")
    file, _, line = place.rpartition(":")
    assert Path(file).resolve() == Path(__file__).resolve()
    assert "sites.on(" in Path(file).read_text().splitlines()[int(line) - 1]
    assert rest.startswith("pattern 'sites/{site:nowhere}': ")


def test_nothing_of_a_refused_route_stays() -> None:
    router = Router()
    with pytest.raises(RouteError):
        router.on("{a-b}", handler)
    assert router.routes == []
