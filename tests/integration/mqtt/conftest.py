from __future__ import annotations

from typing import Literal, cast

import pytest

from core.mqtt.options import MqttOptions
from tests.servers.kinds import BrokerServer


@pytest.fixture(params=["fast", "stock"])
def receive(request: pytest.FixtureRequest) -> Literal["fast", "stock"]:
    return cast(Literal["fast", "stock"], request.param)


@pytest.fixture(params=["5", "3.1.1"])
def options(request: pytest.FixtureRequest, broker: BrokerServer, receive: Literal["fast", "stock"]) -> MqttOptions:
    return MqttOptions(
        host=broker.host,
        port=broker.port if request.param == "5" else broker.port_311,
        username=broker.username,
        password=broker.password,
        protocol=request.param,
        receive=receive,
    )
