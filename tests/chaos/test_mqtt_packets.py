"""A stream is cut where its packets end, however it was read."""

from __future__ import annotations

import pytest

from tests.chaos.mqtt_packets import name_of, packets
from tests.chaos.proxy import Piece
from tests.servers.mqtt_wire import connect_packet, publish_packet

STREAM = [connect_packet("router"), publish_packet("a/b", bytes(20_000), 1), publish_packet("a/b", b"", 2)]


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_pieces_are_packets(size: int) -> None:
    split, stream = packets(), b"".join(STREAM)
    reads = [stream[begin : begin + size] for begin in range(0, len(stream), size)]
    assert [piece for read in reads for piece in split(read)] == STREAM


def test_a_packet_is_named_by_its_kind_and_its_sender() -> None:
    assert name_of(Piece("request", STREAM[0], opens=True)) == "CONNECT of the router"
    assert name_of(Piece("answer", STREAM[1], opens=True)) == "PUBLISH of the broker"
