"""The fast path's reader beside paho's own, on whatever a broker may send: they read the same."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from core.mqtt.connection import _incoming
from core.mqtt.frames import Packet
from core.mqtt.message import IncomingMessage
from tests.fuzz.frames import Frames, read
from tests.fuzz.plain_mqtt import read_stream, write_publish


class _Stream:
    """A socket that holds some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, count: int) -> bytes:
        if not self._data:
            raise BlockingIOError
        taken, self._data = self._data[:count], self._data[count:]
        return taken


def read_by_paho(data: bytes, *, is_v5: bool) -> list[IncomingMessage]:
    protocol = MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311
    client, messages = Client(CallbackAPIVersion.VERSION2, protocol=protocol, manual_ack=True), list[IncomingMessage]()

    def note(_: Client, __: Any, message: MQTTMessage) -> None:
        messages.append(_incoming(message, 0))

    client.on_message = note
    client._sock = _Stream(data)  # type: ignore[assignment]
    while (code := client._packet_read()) == MQTTErrorCode.MQTT_ERR_SUCCESS:
        continue
    assert code == MQTTErrorCode.MQTT_ERR_AGAIN
    client._sock = None
    return messages


@pytest.mark.parametrize("is_v5", [True, False], ids=["5", "3.1.1"])
@given(seed=st.integers(0, 2**32))
def test_three_readers_read_the_same(is_v5: bool, seed: int) -> None:
    frames = Frames(Random(seed))
    sent = [frames.message(is_v5=is_v5) for _ in range(5)]
    data = b"".join(write_publish(each, is_v5=is_v5) for each in sent)
    assert read_by_paho(data, is_v5=is_v5) == sent
    expected: tuple[list[IncomingMessage | Packet], bool] = (list(sent), False)
    assert read_stream(data, is_v5=is_v5) == expected
    assert read(frames.mutator.pieces(data), is_v5=is_v5) == expected
