"""One message of a key at a time, in the order in which they arrived."""

from __future__ import annotations

import asyncio
from typing import TypeAlias
from weakref import WeakValueDictionary

from core.errors import BrokerUnavailableError
from core.mqtt.message import IncomingMessage

Line: TypeAlias = tuple[str, str]
"""A route's pattern and a key: those who wait in it go on one after the other."""


class Turn:
    """The right of one message to be handled. Others of its line wait until it has ended."""

    __slots__ = ("_connection", "_line", "_lock", "_turns")

    def __init__(self, turns: Turns, line: Line, lock: asyncio.Lock, connection: int) -> None:
        self._turns = turns
        self._line = line
        self._lock = lock
        self._connection = connection

    def end(self) -> None:
        self._lock.release()

    def comes_again(self) -> None:
        """The message is left to its redelivery. So are those behind it, which come again after it: they would
        overtake it else."""
        self._turns.leave(self._line, self._connection)


class Turns:
    """The lines of one process."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Line, asyncio.Lock] = WeakValueDictionary()
        self._left: dict[Line, int] = {}
        """Lines of which a message comes again, with the connection that it will not come on."""

    async def take(self, line: Line, message: IncomingMessage) -> Turn:
        """Wait for those that were here before.

        Raises BrokerUnavailableError for a message that comes again behind an earlier one that does.
        """
        lock = self._locks.setdefault(line, asyncio.Lock())
        await lock.acquire()
        if self._left and message.qos and self._left.get(line) == message.connection:
            lock.release()
            raise BrokerUnavailableError("an earlier message of its key comes again first")
        return Turn(self, line, lock, message.connection)

    def leave(self, line: Line, connection: int) -> None:
        self._left = {each: last for each, last in self._left.items() if last >= connection}
        self._left[line] = connection
