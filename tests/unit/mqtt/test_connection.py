"""The private names of aiomqtt and paho that core/mqtt/connection.py stands on; those of the fast way: its own test."""

from __future__ import annotations

import inspect

import aiomqtt
import pytest
from paho.mqtt.client import Client, MQTTMessage

OVERRIDDEN = [
    "_on_message",
    "_on_connect",
    "_on_disconnect",
    "_on_socket_open",
    "_on_socket_register_write",
    "_misc_loop",
]
READ_FROM_AIOMQTT = ["_loop", "_client", "_connected", "_misc_task"]
READ_FROM_PAHO = ["_sock_close", "_packet_read", "_loop_rc_handle", "_ping_t", "_last_bytes_received"]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_pitfall_05_aiomqtt_still_has_what_the_connection_overrides(name: str) -> None:
    assert callable(getattr(aiomqtt.Client, name))


@pytest.mark.parametrize("name", ["_on_message", "_on_socket_open", "_on_socket_register_write"])
async def test_pitfall_05_aiomqtt_hands_its_hooks_to_paho(name: str) -> None:
    client = aiomqtt.Client("localhost")
    assert getattr(client._client, name.removeprefix("_")) == getattr(client, name)


async def test_pitfall_05_aiomqtt_and_paho_still_have_what_the_connection_reads() -> None:
    client = aiomqtt.Client("localhost")
    assert [name for name in READ_FROM_AIOMQTT if not hasattr(client, name)] == []
    assert [name for name in READ_FROM_PAHO if not hasattr(client._client, name)] == []
    assert list(client._pending_calls) == []
    assert MQTTMessage(1, b"a")._topic == b"a"


def test_pitfall_05_paho_still_judges_the_keepalive_by_the_names_that_the_connection_sets() -> None:
    source = inspect.getsource(Client._check_keepalive) + inspect.getsource(Client.loop_misc)
    assert "_last_bytes_received" in source
    assert "_ping_t" in source
