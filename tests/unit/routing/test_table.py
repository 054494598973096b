from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.errors import NoRouteError, RouteError
from core.mqtt.message import Subscription
from core.router import Router
from core.routing.table import RouteTable

if TYPE_CHECKING:
    from core.settings import Settings


async def handler() -> None: ...


async def unresolvable(payload: Settings) -> None: ...


def _routers(*patterns: str) -> list[Router]:
    routers = []
    for pattern in patterns:
        router = Router()
        router.on(pattern, handler)
        routers.append(router)
    return routers


def test_a_topic_finds_its_route_among_all_routers() -> None:
    table = RouteTable(_routers("a/{x}", "a/b", "c/#"))
    assert table.find(["a", "b"]).route.pattern.text == "a/b"
    assert [route.pattern.text for route in table.routes] == ["a/{x}", "a/b", "c/#"]


def test_a_topic_without_a_route_says_what_to_do() -> None:
    with pytest.raises(NoRouteError, match=r"no route matches topic 'x/y'; add one .*--route-list"):
        RouteTable(_routers("a")).find(["x", "y"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/{x}", "a/{y}"), ("a/{x}", "a/+"), ("a/{x:rest}", "a/#"), ("a", "a"), ("{i:int}", "{j:int}")],
)
def test_two_routes_of_one_shape_are_refused_with_both_places(one: str, other: str) -> None:
    routers = _routers(one, other)
    with pytest.raises(RouteError) as refused:
        RouteTable(routers)
    assert str(routers[0].routes[0]) in str(refused.value)
    assert str(routers[1].routes[0]) in str(refused.value)


def test_every_conflict_is_named_at_once() -> None:
    with pytest.raises(RouteError) as refused:
        RouteTable(_routers("a", "a", "b", "b"))
    assert len(str(refused.value).splitlines()) == 2


def test_parameters_of_different_types_live_side_by_side() -> None:
    table = RouteTable(_routers("a/{name}", "a/{number:int}"))
    assert table.find(["a", "7"]).route.pattern.text == "a/{number:int}"
    assert table.find(["a", "x"]).route.pattern.text == "a/{name}"
    assert table.subscriptions(None) == [Subscription("a/+", 1)]


def test_an_annotation_that_does_not_exist_at_run_time_is_refused() -> None:
    router = Router()
    router.on("a/b", unresolvable)
    with pytest.raises(RouteError, match=r"test_table.py:\d+: pattern 'a/b'.*'Settings' is not defined"):
        RouteTable([router])


def test_the_main_process_subscribes_to_what_is_not_shared() -> None:
    router = Router()
    router.on("a/{x:int}", handler, qos=1)
    router.on("a/{x}", handler, qos=0)
    router.on("b", handler, qos=0)
    router.on("c", handler, shared=True)
    assert RouteTable([router]).subscriptions(None) == [Subscription("a/+", 1), Subscription("b", 0)]


def test_one_process_for_all_routes_shares_none() -> None:
    router = Router()
    router.on("a/{x:int}", handler, qos=1)
    router.on("a/{x}", handler, qos=0)
    router.on("c", handler, qos=0, shared=True)
    assert RouteTable([router]).all_subscriptions() == [Subscription("a/+", 1), Subscription("c", 0)]


def test_shared_routes_are_subscribed_to_by_as_many_processes_as_they_ask_for() -> None:
    router = Router()
    router.on("a", handler, shared=True, worker_count=3)
    router.on("b", handler, shared=True, qos=0)
    table = RouteTable([router], group="fleet")
    assert table.shared_process_count == 3
    assert table.subscriptions(1) == [Subscription("$share/fleet/a", 1), Subscription("$share/fleet/b", 0)]
    assert table.subscriptions(2) == table.subscriptions(3) == [Subscription("$share/fleet/a", 1)]
    assert table.subscriptions(4) == []


def test_a_shared_route_follows_the_processes_of_those_that_it_covers() -> None:
    router = Router()
    router.on("a/#", handler, shared=True)
    router.on("a/b", handler, shared=True, worker_count=2)
    filters = [each.topic_filter for each in RouteTable([router]).subscriptions(2)]
    assert filters == ["$share/routemq/a/#", "$share/routemq/a/b"]


def test_without_shared_routes_there_are_no_shared_processes() -> None:
    assert RouteTable(_routers("a")).shared_process_count == 0
    assert RouteTable([]).subscriptions(None) == []
