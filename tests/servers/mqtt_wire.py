"""As much of MQTT 3.1.1 as it takes to see that a broker is there, and to end a session."""

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
            connection.sendall(_connect(client_id, username, password))
            answer = connection.recv(4)
            connection.sendall(_DISCONNECT)
    except OSError:
        return False
    return answer == b"\x20\x02\x00\x00"


def accepts_at(url: SplitResult, client_id: str = "") -> bool:
    return accepts(url.hostname or "127.0.0.1", url.port or 1883, client_id, url.username, url.password)


def _connect(client_id: str, username: str | None, password: str | None) -> bytes:
    flags = _CLEAN_SESSION | (_USERNAME if username else 0) | (_PASSWORD if password else 0)
    keepalive = 10  # seconds
    head = _text("MQTT") + bytes([4, flags]) + keepalive.to_bytes(2, "big")
    body = head + b"".join(_text(part) for part in (client_id, username, password) if part is not None)
    assert len(body) < 128, "the length is written as one byte"
    return bytes([0x10, len(body)]) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded
