"""Hands messages to the handler, a bounded number at a time, and says when to stop reading."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from core.errors import BrokerUnavailableError
from core.mqtt.acknowledger import Acknowledger, Arrival
from core.mqtt.message import IncomingMessage
from core.tasks import cancel_for_stop, first_of, start_task

_log = logging.getLogger("routemq.mqtt")

_OVERFLOW = 1000
"""Messages beyond the bound that may be read, unhandled, to get at an answer that stands behind them."""
_CANCELLATION = 2.0  # seconds that a cancelled handler has to come to its end


class _Taken(NamedTuple):
    message: IncomingMessage
    acknowledger: Acknowledger
    arrival: Arrival | None


class Intake:
    """At most `max_messages` messages and about `max_bytes` of payload between arrival and PUBACK.

    For QoS 0, which has none, the end of the handling counts. As much again is read, unhandled, where an answer
    may stand behind it. `on_room` is called whenever there may be room again.
    """

    def __init__(
        self,
        handle: Callable[[IncomingMessage], Coroutine[Any, Any, None]],
        *,
        max_messages: int,
        max_bytes: int,
        on_room: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._on_room = on_room
        self._waiting: deque[_Taken] = deque()
        self._running: dict[asyncio.Task[None], _Taken] = {}
        self._bytes_waiting = 0
        self._bytes_running = 0
        self._quiet = False
        self._at_once = asyncio.Event()
        self._is_cut_short = False
        self._acknowledger = Acknowledger(send=lambda _: False, give_up=lambda: None)

    @property
    def held(self) -> int:
        """Messages between arrival and PUBACK."""
        return len(self._waiting) + len(self._running) + self._acknowledger.held_back

    def has_room(self, answer_awaited: bool = False) -> bool:
        """Whether to read on. `answer_awaited`: behind the messages stands an answer to something of ours."""
        if answer_awaited:
            # What runs does not count: it may be what awaits the answer, and ends only once that is read.
            return self._bytes_waiting < self._max_bytes and self.held < self._max_messages + _OVERFLOW
        has_room = self.held < self._max_messages and self._bytes_waiting + self._bytes_running < self._max_bytes
        return has_room and not self._quiet

    def follow(self, acknowledger: Acknowledger) -> None:
        """From now on messages come on a new connection; what waited for its turn on the last comes again."""
        self._acknowledger = acknowledger
        self._waiting = deque(each for each in self._waiting if not each.arrival)
        self._bytes_waiting = sum(len(each.message.payload) for each in self._waiting)

    def take(self, message: IncomingMessage) -> None:
        arrival = self._acknowledger.arrived(message.mid) if message.qos else None
        taken = _Taken(message, self._acknowledger, arrival)
        if self._waiting or not self._is_one_free():
            self._waiting.append(taken)
            self._bytes_waiting += len(message.payload)
        else:
            self._start_handler(taken)

    def quiet(self) -> None:
        """Start no more handlers."""
        self._quiet = True

    async def drain(self, grace: float) -> None:
        """Wait for the running handlers, up to `grace` seconds, then cancel those that are left.

        Without any grace, whoever waits already waits no longer.
        """
        if grace <= 0:
            self._at_once.set()
        if self._running:
            await first_of(asyncio.wait(self._running, timeout=grace), self._at_once.wait())
        self._cut_short()
        if self._running:
            await asyncio.wait(self._running, timeout=_CANCELLATION)

    def _cut_short(self) -> None:
        """Once: cancelled again, a handler would be cut off from what it does to come to its end."""
        if self._running and not self._is_cut_short:
            self._is_cut_short = True
            for task in self._running:
                cancel_for_stop(task)

    def _start_waiting(self) -> None:
        while self._waiting and self._is_one_free():
            taken = self._waiting.popleft()
            self._bytes_waiting -= len(taken.message.payload)
            self._start_handler(taken)

    def _is_one_free(self) -> bool:
        unacknowledged = len(self._running) + self._acknowledger.held_back
        has_room = unacknowledged < self._max_messages and self._bytes_running < self._max_bytes
        return has_room and not self._quiet

    def _start_handler(self, taken: _Taken) -> None:
        self._bytes_running += len(taken.message.payload)
        # One task for each message and nothing around it: what a handler sets in its context stays its own.
        task = start_task(self._handle(taken.message), taken.message.topic)
        if task.done():
            self._settle(taken, task)
        else:
            self._running[task] = taken
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._settle(self._running.pop(task), task)
        if self._waiting:
            self._start_waiting()
        self._on_room()

    def _settle(self, taken: _Taken, task: asyncio.Task[None]) -> None:
        message, acknowledger, arrival = taken
        self._bytes_running -= len(message.payload)
        handled = _succeeded(task, message)
        if arrival:
            acknowledger.settle(arrival, handled=handled)


def _succeeded(task: asyncio.Task[None], message: IncomingMessage) -> bool:
    if task.cancelled():
        return False
    error = task.exception()
    if error is not None:
        _report(error, message)
    return error is None


def _report(error: BaseException, message: IncomingMessage) -> None:
    if isinstance(error, BrokerUnavailableError) and message.qos:
        # The loss of the connection is told elsewhere, once for all the messages that it ends.
        _log.info("the message on %s is left to its redelivery: %s", message.topic, error)
        return
    fate = "it stays unacknowledged, and the broker will deliver it again" if message.qos else "it is lost (QoS 0)"
    _log.error("the handler of a message on %s raised: %s", message.topic, fate, exc_info=error)
