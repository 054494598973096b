# ruff: noqa: SLF001 - private names of paho are what this file is about
"""A connection that leaves paho out of what there is most of: PUBLISH in, PUBACK out.

paho reads a packet in three calls to the system and makes a dozen objects of it; it is handed what is no
PUBLISH, so that its state stays right. What else a connection is: connection.py.
"""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Callable, Iterator

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from core.mqtt.connection import Connection, HasRoom
from core.mqtt.frames import FrameReader, Packet
from core.mqtt.message import IncomingMessage
from core.mqtt.options import MqttOptions

_READ_SIZE = 64 * 1024
"""Bytes read before the other tasks of the loop get their turn."""
_PUBACK = 0x40
_PUBACK_OF_0 = _PUBACK << 24 | 2 << 16

_NEEDED = ("_in_packet", "_packet_queue", "_packet_read", "_sock_recv", "_sock_send", "_last_bytes_received")
_NEEDED_OF_IN_PACKET = {"command", "have_remaining", "remaining_length", "packet", "to_process", "pos"}


def obstacle() -> str | None:
    """Why the installed paho does not allow this connection; None where it does."""
    client = PahoClient(CallbackAPIVersion.VERSION2)
    missing = [name for name in _NEEDED if not hasattr(client, name)]
    missing += sorted(_NEEDED_OF_IN_PACKET.difference(getattr(client, "_in_packet", ())))
    return f"this paho-mqtt has no {', '.join(missing)}" if missing else None


class FastConnection(Connection):
    def __init__(
        self,
        options: MqttOptions,
        client_id: str,
        *,
        tls: ssl.SSLContext | None,
        receive: Callable[[IncomingMessage], None],
        has_room: HasRoom,
    ) -> None:
        super().__init__(options, client_id, tls=tls, receive=receive, has_room=has_room)
        self._frames = FrameReader(is_v5=self._speaks_5, connection=self.number)
        self._unread: Iterator[IncomingMessage | Packet] = iter(())
        self._pubacks: list[int] = []

    def acknowledge(self, mid: int) -> bool:
        if self._of_qos_2 and mid in self._of_qos_2:
            return super().acknowledge(mid)
        if self._client.socket() is None:
            return False
        if not self._pubacks:
            self._loop.call_soon(self._flush)
        self._pubacks.append(mid)
        return True

    def _say_goodbye(self) -> None:
        self._send_pubacks()
        super()._say_goodbye()

    # ── Reading ──────────────────────────────────────────────────────────────────────────────────────

    def _read_packets(self) -> None:
        sock = self._client.socket()
        if self._paused or sock is None:
            return
        if not self._may_read():
            self._pause(sock)
        elif self._pass_on() and (data := self._read_bytes()):
            self._unread = self._frames.packets(data)
            self._pass_on()
            self._read_rest_of_record()

    def _pass_on(self) -> bool:
        """Pass on what was read, as far as there is room; whether that is all of it."""
        for packet in self._unread:
            if isinstance(packet, IncomingMessage):
                self._receive(packet)
            elif not self._hand_to_paho(packet):
                return False
            if not self._may_read():
                self._stop_reading()
                return False
        return True

    def _stop_reading(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            self._pause(sock)

    def _read_bytes(self) -> bytes:
        """What there is; nothing where the connection has ended, of which paho is told."""
        try:
            data = self._client._sock_recv(_READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if data:
            self._client._last_bytes_received = time.monotonic()
        else:
            self._client._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        return data

    def _hand_to_paho(self, packet: Packet) -> bool:
        """As if paho had read all of it, and were about to handle it; whether the connection goes on."""
        self._client._in_packet = {
            "command": packet.first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(packet.body),
            "packet": bytearray(packet.body),
            "to_process": 0,
            "pos": 0,
        }
        code = self._client._packet_read()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._client._loop_rc_handle(code)
        return self._client.socket() is not None

    # ── Writing ──────────────────────────────────────────────────────────────────────────────────────

    def _flush(self) -> None:
        try:
            self._send_pubacks()
        except Exception as error:
            self._break(error)

    def _send_pubacks(self) -> None:
        if self._pubacks and self._client.socket() is not None:
            batch = struct.pack(f"!{len(self._pubacks)}I", *[_PUBACK_OF_0 | mid for mid in self._pubacks])
            self._pubacks.clear()
            self._write_bytes(batch)

    def _write_bytes(self, batch: bytes) -> None:
        try:
            # What paho has begun to write must end before anything else is written.
            sent = 0 if self._client.want_write() else self._client._sock_send(batch)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._client._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
            return
        if sent < len(batch):
            self._client._packet_queue(_PUBACK, batch[sent:], 0, 1)
