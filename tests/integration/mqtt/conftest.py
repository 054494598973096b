from __future__ import annotations

import pytest

from core.mqtt.options import MqttOptions
from tests.servers.kinds import BrokerServer


@pytest.fixture(params=["5", "3.1.1"])
def options(request: pytest.FixtureRequest, broker: BrokerServer) -> MqttOptions:
    return MqttOptions(
        host=broker.host,
        port=broker.port if request.param == "5" else broker.port_311,
        username=broker.username,
        password=broker.password,
        protocol=request.param,
    )
