"""Publishes numbered JSON messages of 100 bytes at QoS 1, faster than any client reads them.

`python -m benchmarks.publisher HOST PORT FIRST END [SUFFIX…]` publishes these numbers; `… --seconds S --ahead N TALLY` goes on
for S seconds, at most N messages ahead of what the tally says is done, and prints how many it published.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Iterator

from benchmarks.inside.tally import Tally

WINDOW = 4000  # without their PUBACK at most
BATCH = 100
DEVICES = 50


class Publisher:
    """One connection, MQTT 3.1.1; `routes` spreads the messages over topics that end with 1 to `routes` - 1."""

    def __init__(self, host: str, port: int, routes: int = 1) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        self._read(4)
        self._routes = routes
        self._unacknowledged = 0

    def publish(self, numbers: Iterator[int] | range) -> None:
        frames = b"".join(map(self._frame, numbers))
        self._socket.sendall(frames)

    def publish_all(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, BATCH):
            part = range(start, min(start + BATCH, numbers.stop))
            self.publish(part)
            self._unacknowledged += len(part)
            self.settle(WINDOW)

    def settle(self, limit: int) -> None:
        """Read PUBACKs, four bytes each, until at most `limit` messages are without."""
        while self._unacknowledged > limit:
            self._read(4 * min(self._unacknowledged - limit, 500))
            self._unacknowledged -= min(self._unacknowledged - limit, 500)

    def _read(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = self._socket.recv(size - len(received))
            if not part:
                raise ConnectionError("the broker closed the connection")
            received += part
        return bytes(received)

    def _frame(self, number: int) -> bytes:
        suffix = f"/{number % self._routes}" if number % self._routes else ""
        topic = f"bench/d{number % DEVICES}/telemetry{suffix}".encode()
        payload = b'{"number": %d, "value": 21.5, "unit": "C", "pad": "' % number
        payload += b"x" * (98 - len(payload)) + b'"}'
        identifier = number % 65535 + 1
        body = len(topic).to_bytes(2, "big") + topic + identifier.to_bytes(2, "big") + payload
        length = len(body)
        encoded = bytes([length]) if length < 128 else bytes([length % 128 | 128, length // 128])
        return b"\x32" + encoded + body


def sustain(publisher: Publisher, tally: Tally, seconds: float, ahead: int) -> int:
    """Publish for so long, and say how many; `low` is below all that is not done yet."""
    low = published = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and published + BATCH < tally.capacity:
        low += _leading_ones(bytes(tally.counts[low:published]))
        if published - low < ahead:
            publisher.publish_all(range(published, published + BATCH))
            published += BATCH
        else:
            time.sleep(0.002)
    return published


def _leading_ones(counts: bytes) -> int:
    zero = counts.find(0)
    return len(counts) if zero < 0 else zero


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("--routes", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--ahead", type=int, default=10_000)
    parser.add_argument("--tally")
    options = parser.parse_args()
    publisher = Publisher(options.host, options.port, options.routes)
    if options.seconds:
        print(sustain(publisher, Tally(options.tally), options.seconds, options.ahead))
    else:
        publisher.publish_all(range(options.first, options.end))
    publisher.settle(0)


if __name__ == "__main__":
    main()
