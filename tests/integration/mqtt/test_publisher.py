from __future__ import annotations

import pytest

from core.errors import BrokerUnavailableError
from core.mqtt.message import MessageProperties
from core.mqtt.options import MqttOptions
from core.mqtt.publisher import OneShotPublisher
from tests.mqtt_harness import Handler, running
from tests.servers.process import free_port


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_message_is_published_without_a_standing_connection(
    options: MqttOptions, client_id: str, unique: str, qos: int
) -> None:
    handler = Handler(hold=False)
    properties = MessageProperties(correlation_data=b"7")
    async with running(options, f"{unique}/#", client_id=client_id, handler=handler):
        publisher = OneShotPublisher(options)
        for payload in ("one", b"two"):
            await publisher.publish(f"{unique}/reply", payload, qos=qos, properties=properties)
        await handler.has_ended(b"one", b"two")
    if options.protocol == "5":
        assert {message.properties for message in handler.messages} == {properties}


async def test_a_broker_that_is_not_there_is_named() -> None:
    options = MqttOptions(host="127.0.0.1", port=free_port())
    with pytest.raises(BrokerUnavailableError, match=f"to reply .*{options.address}"):
        await OneShotPublisher(options).publish("reply", b"")
