from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from app.middleware.log_messages import LogMessages
from core.middleware import Middleware, NextHandler
from core.mqtt.message import IncomingMessage, MessageProperties
from core.router import Router
from core.routing.context import Context
from core.routing.handling import MessageHandler


class Dropping(Middleware):
    async def handle(self, context: Context, next_handler: NextHandler) -> None:
        context.drop("a duplicate")


async def _fail() -> None:
    raise ValueError("broken")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="routemq.messages")
    return caplog


@pytest.mark.parametrize(
    ("handler", "inner", "outcome"),
    [
        (lambda: None, [], r"handled after \d+\.\d ms"),
        (_fail, [], r"failed after \d+\.\d ms: ValueError: broken"),
        (_fail, [Dropping], "dropped: a duplicate"),
    ],
)
async def test_each_message_is_one_line_with_its_duration(
    handling: Callable[..., MessageHandler],
    lines: pytest.LogCaptureFixture,
    handler: Callable[..., object],
    inner: list[type[Middleware]],
    outcome: str,
) -> None:
    router = Router()
    router.on("a/{x}", handler, middleware=[LogMessages, *inner])
    message = IncomingMessage("a/b", b"four", properties=MessageProperties(correlation_data=b"id-7"))
    await handling(router, tries=1).handle(message)
    (record,) = lines.records
    assert re.fullmatch(rf"a/b \(4 bytes, route a/{{x}}\) {outcome}", record.message)
    assert record.__dict__["correlation_id"] == "id-7"
