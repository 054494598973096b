"""The PUBACKs of one connection, in the order in which its messages arrived (MQTT-4.6.0-2).

Each connection has an acknowledger of its own: that is the guard against packet identifiers of an earlier
connection, which the broker may since have given to another message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Arrival:
    """A message's place in the order of arrival."""

    __slots__ = ("handled", "mid")

    def __init__(self, mid: int) -> None:
        self.mid = mid
        self.handled: bool | None = None  # None while it is being handled


class Acknowledger:
    """`send` puts one PUBACK on the wire and tells whether it could.

    `give_up` is called when a message that was not handled comes to the head of the order: from then on
    nothing can be acknowledged on this connection, and only a new one makes the broker deliver again.
    """

    def __init__(self, send: Callable[[int], bool], give_up: Callable[[], None]) -> None:
        self._send = send
        self._give_up = give_up
        self._arrivals: deque[Arrival] = deque()
        self._closed = False
        self.held_back = 0
        """Messages that are handled and wait for an earlier one."""

    def arrived(self, mid: int) -> Arrival:
        arrival = Arrival(mid)
        self._arrivals.append(arrival)
        return arrival

    def settle(self, arrival: Arrival, *, handled: bool) -> None:
        """Take note how a message ended, and acknowledge what thereby can be."""
        if self._closed:
            return
        arrival.handled = handled
        self.held_back += 1
        self._flush()

    def close(self) -> None:
        """The connection is over: nothing that came on it will be acknowledged any more."""
        self._closed = True
        self._arrivals.clear()
        self.held_back = 0

    def _flush(self) -> None:
        while self._arrivals and self._arrivals[0].handled:
            if not self._send(self._arrivals[0].mid):
                return self.close()
            self._arrivals.popleft()
            self.held_back -= 1
        if self._arrivals and self._arrivals[0].handled is False:
            self.close()
            self._give_up()
        return None
