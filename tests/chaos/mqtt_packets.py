"""A connection of MQTT, packet by packet, for the proxy: `Proxy(..., split=packets)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from paho.mqtt.packettypes import PacketTypes

from tests.chaos.proxy import Piece


def packets() -> Callable[[bytes], Iterator[bytes]]:
    """Cuts a stream into packets, each as it becomes whole."""
    kept = bytearray()

    def split(data: bytes) -> Iterator[bytes]:
        kept.extend(data)
        while (size := _size(kept)) and size <= len(kept):
            packet = bytes(kept[:size])
            del kept[:size]
            yield packet

    return split


def name_of(piece: Piece) -> str:
    """What kind of packet it is and who sends it: PUBACK of the router, for instance, or PUBACK of the broker."""
    kind = PacketTypes.Names[piece.data[0] >> 4].upper()
    return f"{kind} of the {'router' if piece.way == 'request' else 'broker'}"


def _size(data: bytearray) -> int:
    """Of the packet that begins there; 0 while that cannot be told (MQTT 5, sections 2.1.4 and 1.5.5)."""
    length = 0
    for place, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return 2 + place + length
    return 0
