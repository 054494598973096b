"""From a message to the end of its controller: the tries, the waits, and the record of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from itertools import count
from typing import TypeAlias

from msgspec import Struct, field

from core.clock import Backoff, Clock, SystemClock
from core.errors import BrokerUnavailableError, MessageError, UnavailableError
from core.mqtt.message import IncomingMessage
from core.observability.events import (
    Event,
    Events,
    MessageDropped,
    MessageFailed,
    MessageHandled,
    MessageRetried,
)
from core.queue import dispatches
from core.queue.dispatches import Dispatches
from core.queue.job_id import new_job_id
from core.queue.origin import Origin, dispatching_from
from core.routing.client import Client, Publisher
from core.routing.context import Context, correlation_id_of
from core.routing.message_keys import MessageKeys
from core.routing.outage import IsAway, Outage
from core.routing.pattern import Pattern
from core.routing.table import RouteTable
from core.routing.turns import Turn, Turns
from core.tasks import forget_cancellation, is_cancelled_for_stop

RecordFailure: TypeAlias = Callable[[IncomingMessage, BaseException, int, str], Awaitable[None]]
"""Stores a message that was given up, with what it failed with, the number of its tries, and the job id that its
record is to have: the same in every attempt to store it, so that there is never a second."""


class _Arrival(Struct):
    """What all tries of a message have in common."""

    at: datetime  # UTC
    correlation_id: str
    marks: set[object] = field(default_factory=set)
    turn: Turn | None = None
    """Among the messages of its key, once it has come."""
    dispatches: Dispatches = field(default_factory=Dispatches)


class MessageHandler:
    """Runs messages through their routes. One handler serves any number of messages at once.

    `shared` says which routes this process serves: the shared ones, the others, or (None) all of them. A
    message that a wider subscription brings here as well is left to the process that its route belongs to.
    """

    def __init__(
        self,
        table: RouteTable,
        *,
        events: Events,
        record_failure: RecordFailure,
        tries: int = 3,
        shared: bool | None = None,
        publisher: Publisher | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.publisher = publisher
        self._table = table
        self._events = events
        self._record_failure = record_failure
        self._tries = tries
        self._shared = shared
        self._clock = clock or SystemClock()
        self._turns = Turns()
        self._outage = Outage(events, self._clock)

    async def handle(self, message: IncomingMessage) -> None:
        """Returns when the message may be acknowledged: it was handled, or its failure is on record.

        Raises CancelledError, and that only after `cancel_for_stop`, and BrokerUnavailableError for a message that
        comes again: with its connection, the chance to acknowledge it is gone, and what its controller did before
        it published need not be done more often than that. Any other server that cannot be reached is waited for,
        which counts as no try: the message keeps its place in the bounded intake, so the pressure reaches the broker.
        """
        arrival = self._arrival(message)
        before = dispatches.begin(arrival.dispatches)
        run, delays = partial(self._pass, message, arrival), Backoff(0.1, 2)
        is_away = _is_store_away if message.qos else _is_server_away
        try:
            for attempt in count(1):
                exception = await self._try(run, is_away)
                if exception is None:
                    return
                if message.qos and isinstance(exception, BrokerUnavailableError):
                    if arrival.turn is not None:
                        arrival.turn.comes_again()
                    raise exception
                if isinstance(exception, MessageError) or attempt >= self._tries:
                    await self._give_up(message, exception, attempt)
                    return
                delay = delays.next()
                self._emit(MessageRetried(message.topic, attempt, exception, delay))
                await _undisturbed(partial(self._clock.sleep, delay))
        finally:
            dispatches.end(arrival.dispatches, before)
            if arrival.turn is not None:
                arrival.turn.end()

    async def run_once(self, message: IncomingMessage) -> None:
        """One pass through route and middleware. Raises whatever comes of it."""
        arrival = self._arrival(message)
        try:
            await self._pass(message, arrival)
        finally:
            if arrival.turn is not None:
                arrival.turn.end()

    def _arrival(self, message: IncomingMessage) -> _Arrival:
        return _Arrival(self._clock.now(), correlation_id_of(message))

    async def _pass(self, message: IncomingMessage, arrival: _Arrival) -> None:
        levels = message.topic.split("/")
        endpoint = self._table.find(levels)
        if self._shared not in (None, endpoint.route.shared):
            return
        context = self._context(message, arrival, endpoint.route.pattern, levels)
        keys = endpoint.route.keys
        origin = None if keys is None else await self._origin(keys, context, message, arrival)
        arrival.dispatches.begin_try()
        started = self._clock.monotonic()
        if origin is None:
            await endpoint.run(context)
        else:
            with dispatching_from(origin):
                await endpoint.run(context)
        self._tell(context, self._clock.monotonic() - started)

    async def _origin(self, keys: MessageKeys, context: Context, message: IncomingMessage, arrival: _Arrival) -> Origin:
        """What the dispatches of this try take over from the message; once it is its turn, which it keeps."""
        key = keys.ordering_key(context)
        if key is not None and arrival.turn is None:
            arrival.turn = await self._turns.take((context.route, key), message)
        return keys.origin(context, key)

    def _context(self, message: IncomingMessage, arrival: _Arrival, pattern: Pattern, levels: list[str]) -> Context:
        return Context(
            topic=message.topic,
            payload=message.payload,
            qos=message.qos,
            retain=message.retain,
            duplicate=message.duplicate,
            properties=message.properties,
            route=pattern.text,
            params=pattern.parameters(levels),
            client=Client(self.publisher, message.properties),
            correlation_id=arrival.correlation_id,
            received_at=arrival.at,
            marks=arrival.marks,
        )

    def _tell(self, context: Context, seconds: float) -> None:
        if context.dropped is None:
            self._emit(MessageHandled(context.topic, context.route, seconds))
        else:
            self._emit(MessageDropped(context.topic, context.dropped))

    async def _try(self, run: Callable[[], Awaitable[None]], is_away: IsAway) -> BaseException | None:
        """One counted try, begun again while a server is away; None when the message was handled."""
        try:
            await self._outage.outlast(run, is_away)
        except BaseException as error:  # whatever a controller raises must not take the router with it
            if is_cancelled_for_stop():  # cut short, it has not failed: it is delivered again
                raise asyncio.CancelledError from error
            forget_cancellation()
            return error
        return None

    async def _give_up(self, message: IncomingMessage, exception: BaseException, attempts: int) -> None:
        record = partial(self._record_failure, message, exception, attempts, new_job_id())
        await _undisturbed(partial(self._outage.outlast, record, lambda _: True))
        self._emit(MessageFailed(message.topic, attempts, exception))

    def _emit(self, event: Event) -> None:
        self._events.emit(event)


def _is_server_away(error: Exception) -> bool:
    return isinstance(error, UnavailableError)


def _is_store_away(error: Exception) -> bool:
    return isinstance(error, UnavailableError) and not isinstance(error, BrokerUnavailableError)


async def _undisturbed(action: Callable[[], Awaitable[None]]) -> None:
    """Run an action of ours, again if need be: a cancellation that a controller has ordered, such as that of a
    timer which it left behind, may come when the controller is long over."""
    while True:
        try:
            return await action()
        except asyncio.CancelledError:
            if is_cancelled_for_stop():
                raise
            forget_cancellation()
