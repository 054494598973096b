"""What happens inside RouteMQ, told once, at the boundary where it happens.

The rooms emit events and know nothing of logs, metrics or pages; those subscribe. An event is a frozen
value. Subscribers run at once, in the emitting task, and must not block.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

_log = logging.getLogger("routemq.events")


@dataclass(frozen=True, slots=True)
class Event:
    """The root of all events."""


# ── MQTT ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BrokerConnected(Event):
    address: str
    client_id: str
    session_present: bool
    subscriptions: int


@dataclass(frozen=True, slots=True)
class BrokerLost(Event):
    address: str
    client_id: str
    reason: str
    retry_in: float  # seconds


@dataclass(frozen=True, slots=True)
class SubscriptionRefused(Event):
    topic_filter: str
    reason: str


@dataclass(frozen=True, slots=True)
class MessageReceived(Event):
    topic: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class MessageHandled(Event):
    topic: str
    route: str
    seconds: float


@dataclass(frozen=True, slots=True)
class MessageRetried(Event):
    topic: str
    attempt: int
    exception: BaseException
    retry_in: float  # seconds


@dataclass(frozen=True, slots=True)
class MessageFailed(Event):
    """A message was given up and its record stored in failed_jobs."""

    topic: str
    attempts: int
    exception: BaseException


@dataclass(frozen=True, slots=True)
class MessageDropped(Event):
    """A message was left out on purpose, as its route's middleware asks for."""

    topic: str
    reason: str


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    job_id: str
    job: str  # the name of its class
    queue: str
    attempts: int


@dataclass(frozen=True, slots=True)
class JobStarted(JobEvent):
    pass


@dataclass(frozen=True, slots=True)
class JobCompleted(JobEvent):
    seconds: float


@dataclass(frozen=True, slots=True)
class JobRetried(JobEvent):
    seconds: float
    exception: BaseException
    retry_in: float  # seconds


@dataclass(frozen=True, slots=True)
class JobFailed(JobEvent):
    seconds: float
    exception: BaseException


@dataclass(frozen=True, slots=True)
class JobReleased(JobEvent):
    """A running job was handed back, as its worker stops."""


@dataclass(frozen=True, slots=True)
class LeaseLost(JobEvent):
    """An outcome came too late: somebody else holds the job by now, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class HookFailed(JobEvent):
    """A job's `failed()` raised; its row in failed_jobs stands all the same."""

    exception: BaseException


@dataclass(frozen=True, slots=True)
class JobsRescued(Event):
    count: int


@dataclass(frozen=True, slots=True)
class JobsDispatched(Event):
    queue: str
    count: int


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StoreLost(Event):
    """A server that we need cannot be reached; whoever emits this tries again."""

    what: str
    exception: BaseException
    retry_in: float  # seconds


@dataclass(frozen=True, slots=True)
class StoreBack(Event):
    what: str


@dataclass(frozen=True, slots=True)
class ProcessStarted(Event):
    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class ProcessReplaced(Event):
    """A process ended as it was told to (--max-jobs, --memory); another takes its place."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class ProcessDied(Event):
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
