from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from core.mqtt.options import MqttOptions
from tests.scripted_broker import ScriptedBroker


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker() as broker:
        yield broker


@pytest.fixture(params=["fast", "stock"])
def options_5(request: pytest.FixtureRequest, broker: ScriptedBroker) -> MqttOptions:
    return MqttOptions(host=broker.host, port=broker.port, receive=request.param)


@pytest.fixture(params=["5", "3.1.1"])
def options(request: pytest.FixtureRequest, options_5: MqttOptions) -> MqttOptions:
    return replace(options_5, protocol=request.param)
