from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.mqtt.options import MqttOptions
from tests.scripted_broker import ScriptedBroker


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker() as broker:
        yield broker


@pytest.fixture(params=["5", "3.1.1"])
def options(request: pytest.FixtureRequest, broker: ScriptedBroker) -> MqttOptions:
    return MqttOptions(host=broker.host, port=broker.port, protocol=request.param)


@pytest.fixture
def options_5(broker: ScriptedBroker) -> MqttOptions:
    return MqttOptions(host=broker.host, port=broker.port)
