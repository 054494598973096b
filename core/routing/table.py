"""All routes of the application: which one a topic belongs to, and what each process subscribes to.

One message belongs to one route, the most specific of those that match. Routes that differ in the type of a
parameter only, `{id:int}` and `{name}`, may live side by side: the stricter type is asked first (uuid, int,
float, str). Two routes of one shape are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial

from core.errors import NoRouteError, RouteError
from core.mqtt.message import Subscription
from core.mqtt.topic import covers, share
from core.router import Router
from core.routing.endpoint import Endpoint
from core.routing.route import Route
from core.routing.trie import Trie


class RouteTable:
    def __init__(self, routers: Iterable[Router], group: str = "routemq", *, threads: Executor | None = None) -> None:
        """`group` names the shared subscriptions; `threads` run controllers that are not async.

        Raises RouteError with the registrations at fault.
        """
        self.routes = tuple(route for router in routers for route in router.routes)
        self._group = group
        self._trie: Trie[Endpoint] = Trie()
        _check_conflicts(self.routes)
        for route in self.routes:
            self._trie.add(route.pattern.segments, Endpoint.of(route, threads))

    def find(self, levels: list[str]) -> Endpoint:
        """The route of a topic, given as its levels. Raises NoRouteError."""
        endpoint = self._trie.find(levels)
        if endpoint is None:
            raise NoRouteError(
                f"no route matches topic {'/'.join(levels)!r}; add one in app/routers "
                "(python main.py --route-list shows those there are), or stop the sender"
            )
        return endpoint

    @property
    def shared_process_count(self) -> int:
        """How many processes serve the shared routes, besides the main one."""
        return max((route.worker_count for route in self.routes if route.shared), default=0)

    def all_subscriptions(self) -> list[Subscription]:
        """What a router subscribes to that is one process for all routes."""
        return _subscriptions(self.routes, str)

    def subscriptions(self, process: int | None) -> list[Subscription]:
        """What a process subscribes to: `None` is the main one; those for shared routes count from 1."""
        if process is None:
            return _subscriptions((route for route in self.routes if not route.shared), str)
        shared = [route for route in self.routes if route.shared]
        taking_part = (route for route in shared if _takes_part(route, process, shared))
        return _subscriptions(taking_part, partial(share, self._group))


def _takes_part(route: Route, process: int, shared: Iterable[Route]) -> bool:
    """Whether a process serves a shared route: that of its own workers, and of those of routes it covers.

    Were the narrow route served by more processes than the wide one, a message to both would come twice: to a
    process that subscribes to the narrow one alone, and to one whose wide subscription brings both.
    """
    wide = route.pattern.topic_filter
    return route.worker_count >= process or any(
        each.worker_count >= process and covers(wide, each.pattern.topic_filter) for each in shared
    )


def _subscriptions(routes: Iterable[Route], name: Callable[[str], str]) -> list[Subscription]:
    """One per topic filter: `{id:int}` and `{name}` are the same to the broker. The higher QoS wins."""
    qos: dict[str, int] = {}
    for route in routes:
        topic_filter = name(route.pattern.topic_filter)
        qos[topic_filter] = max(route.qos, qos.get(topic_filter, 0))
    return [Subscription(topic_filter, each) for topic_filter, each in qos.items()]


def _check_conflicts(routes: Iterable[Route]) -> None:
    problems = "\n".join(_conflicts(routes))
    if problems:
        raise RouteError(problems)


def _conflicts(routes: Iterable[Route]) -> Iterator[str]:
    first: dict[str, Route] = {}
    for route in routes:
        other = first.setdefault(route.pattern.shape, route)
        if other is not route:
            yield f"{route} matches the same topics as {other}; remove or change one of them"
