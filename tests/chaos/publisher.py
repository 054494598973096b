"""A device that counts only what the broker acknowledged to it: QoS 1, in MQTT 3.1.1 on a bare socket.

A message that is under way when the connection breaks is not sent again: whether it arrived is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from tests.chaos.app.orders import Order
from tests.chaos.app.routers.orders import topic_of
from tests.chaos.ledger import Ledger
from tests.servers.mqtt_wire import connect_packet, publish_packet

_PUBACK = 0x40
_MOST_UNDER_WAY = 100
_RECONNECT_AFTER = 0.1  # seconds


class Publisher:
    """`publish` any number of times, one after the other; `close` at the end."""

    def __init__(self, host: str, port: int, ledger: Ledger, *, saves_late: bool = False) -> None:
        """`saves_late`: the broker saves each message before it acknowledges the next one, and may be killed before
        it has. So the last that it acknowledged does not count."""
        self.sent: set[str] = set()
        """The ids of all that it has sent, acknowledged or not."""
        self._where = host, port
        self._ledger = ledger
        self._under_way: dict[int, Order] = {}
        self._changed = asyncio.Event()
        self._packet_id = 0
        self._saves_late = saves_late
        self._last: Order | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def publish(self, orders: Iterable[Order]) -> None:
        """Returns once each was acknowledged, or its connection lost."""
        for order in orders:
            for _ in range(2 if order.once else 1):
                await self._until_under_way(_MOST_UNDER_WAY - 1)
                await self._send(order)
        await self._until_under_way(0)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _until_under_way(self, most: int) -> None:
        while len(self._under_way) > most:
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, order: Order) -> None:
        writer = await self._connected()
        self._packet_id = self._packet_id % 65535 + 1
        self._under_way[self._packet_id] = order
        self.sent.add(order.id)
        writer.write(publish_packet(topic_of(order), msgspec.json.encode(order), self._packet_id))

    async def _connected(self) -> asyncio.StreamWriter:
        while self._writer is None:
            try:
                reader, writer = await self._connect()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(_RECONNECT_AFTER)
            else:
                self._writer = writer
                self._reading = asyncio.create_task(self._read(reader, writer), name="read-pubacks")
        return self._writer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            writer.write(connect_packet(keepalive=0))
            await reader.readexactly(4)
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                packet = await reader.readexactly(4)
                assert packet[0] == _PUBACK, packet
                self._acknowledged(self._under_way.pop(int.from_bytes(packet[2:], "big")))
                self._changed.set()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._writer = None
            self._under_way.clear()
            self._last = None
            self._changed.set()

    def _acknowledged(self, order: Order) -> None:
        certain: Order | None = order
        if self._saves_late:
            certain, self._last = self._last, order
        if certain is not None:
            self._ledger.accept(certain)
