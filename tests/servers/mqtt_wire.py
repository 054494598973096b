"""As much of MQTT 3.1.1 as it takes to see that a broker is there, to end a session, and to publish."""

from __future__ import annotations

import socket
from urllib.parse import SplitResult

_CLEAN_SESSION, _PASSWORD, _USERNAME = 0x02, 0x40, 0x80
_DISCONNECT = b"\xe0\x00"


def accepts(
    host: str, port: int, client_id: str = "", username: str | None = None, password: str | None = None
) -> bool:
    """Whether the broker accepts a connection with a clean session, which also ends `client_id`'s old one."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(connect_packet(client_id, username, password))
            answer = connection.recv(4)
            connection.sendall(_DISCONNECT)
    except OSError:
        return False
    return answer == b"\x20\x02\x00\x00"


def accepts_at(url: SplitResult, client_id: str = "") -> bool:
    return accepts(url.hostname or "127.0.0.1", url.port or 1883, client_id, url.username, url.password)


def connect_packet(
    client_id: str = "", username: str | None = None, password: str | None = None, *, keepalive: int = 10
) -> bytes:
    """CONNECT with a clean session; `keepalive` in seconds, 0 for none."""
    flags = _CLEAN_SESSION | (_USERNAME if username else 0) | (_PASSWORD if password else 0)
    head = _text("MQTT") + bytes([4, flags]) + keepalive.to_bytes(2, "big")
    return _packet(0x10, head + b"".join(_text(part) for part in (client_id, username, password) if part is not None))


def publish_packet(topic: str, payload: bytes, packet_id: int) -> bytes:
    """PUBLISH at QoS 1."""
    return _packet(0x32, _text(topic) + packet_id.to_bytes(2, "big") + payload)


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + _length(len(body)) + body


def _length(length: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that there are more (MQTT 3.1.1, section 2.2.3)."""
    rest, digit = divmod(length, 128)
    return bytes([digit | 0x80]) + _length(rest) if rest else bytes([digit])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded
