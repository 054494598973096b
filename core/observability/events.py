"""What happens inside RouteMQ, told once, at the boundary where it happens.

The rooms emit events and know nothing of logs, metrics or pages; those subscribe. An event is a frozen
value. Subscribers run at once, in the emitting task, and must not block.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

_log = logging.getLogger("routemq.events")


class Event(Struct, frozen=True):
    """The root of all events."""


# ── MQTT ─────────────────────────────────────────────────────────────────────────────────────────────


class BrokerConnected(Event, frozen=True):
    address: str
    client_id: str
    session_present: bool
    subscriptions: int


class BrokerLost(Event, frozen=True):
    address: str
    client_id: str
    reason: str
    retry_in: float  # seconds


class SubscriptionRefused(Event, frozen=True):
    topic_filter: str
    reason: str


class MessageReceived(Event, frozen=True):
    topic: str
    size: int  # bytes


class MessageHandled(Event, frozen=True):
    topic: str
    route: str
    seconds: float


class MessageRetried(Event, frozen=True):
    topic: str
    attempt: int
    exception: BaseException
    retry_in: float  # seconds


class MessageFailed(Event, frozen=True):
    """A message was given up and its record stored in failed_jobs."""

    topic: str
    attempts: int
    exception: BaseException


class MessageDropped(Event, frozen=True):
    """A message was left out on purpose, as its route's middleware asks for."""

    topic: str
    reason: str


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────


class JobEvent(Event, frozen=True):
    job_id: str
    job: str  # the name of its class
    queue: str
    attempts: int


class JobStarted(JobEvent, frozen=True):
    pass


class JobCompleted(JobEvent, frozen=True):
    seconds: float


class JobRetried(JobEvent, frozen=True):
    seconds: float
    exception: BaseException
    retry_in: float  # seconds


class JobFailed(JobEvent, frozen=True):
    seconds: float
    exception: BaseException


class JobReleased(JobEvent, frozen=True):
    """A running job was handed back, as its worker stops."""


class LeaseLost(JobEvent, frozen=True):
    """An outcome came too late: somebody else holds the job by now, and nothing was changed."""


class HookFailed(JobEvent, frozen=True):
    """A job's `failed()` raised; its row in failed_jobs stands all the same."""

    exception: BaseException


class JobsRescued(Event, frozen=True):
    count: int


class JobsDispatched(Event, frozen=True):
    queue: str
    count: int


class JobDeduplicated(Event, frozen=True):
    """A dispatch stored nothing, as a job with the same unique key stands for it."""

    job_id: str  # of the job that stands for it
    job: str  # the name of its class
    queue: str


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────


class StoreLost(Event, frozen=True):
    """A server that we need cannot be reached; whoever emits this tries again."""

    what: str
    exception: BaseException
    retry_in: float  # seconds


class StoreBack(Event, frozen=True):
    what: str


class ProcessStarted(Event, frozen=True):
    name: str
    pid: int


class ProcessReplaced(Event, frozen=True):
    """A process ended as it was told to (--max-jobs, --memory); another takes its place."""

    name: str
    pid: int


class ProcessDied(Event, frozen=True):
    name: str
    pid: int
    exit_code: int
    restart_in: float  # seconds


E_ = TypeVar("E_", bound=Event)


class Events:
    """Hands each event to those who subscribed to its class or to one above it."""

    def __init__(self) -> None:
        self._subscribers: dict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)
        self._routes: dict[type[Event], list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: type[E_], subscriber: Callable[[E_], None]) -> None:
        self._subscribers[kind].append(subscriber)
        self._routes.clear()

    def emit(self, event: Event) -> None:
        """Tell the subscribers. One that raises is logged and changes nothing for the others."""
        for subscriber in self._subscribers_of(type(event)):
            try:
                subscriber(event)
            except Exception:
                _log.exception("a subscriber of %s raised; the event goes on to the others", type(event).__name__)

    def wanted(self, kind: type[Event]) -> bool:
        """Whether anybody listens: lets a hot path leave out making an event."""
        return bool(self._subscribers_of(kind))

    def _subscribers_of(self, kind: type[Event]) -> list[Callable[[Any], None]]:
        route = self._routes.get(kind)
        if route is None:
            route = [each for above in kind.__mro__ for each in self._subscribers.get(above, ())]
            self._routes[kind] = route
        return route
