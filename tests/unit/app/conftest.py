from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app import mail
from core.application import Application
from core.database.migrations import upgrade
from core.mqtt.message import IncomingMessage, MessageProperties
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder
from core.settings import load_settings


class Example:
    """The example app on an SQLite of its own, with queues in memory; messages go in by hand."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.published: list[tuple[str, Any, MessageProperties]] = []
        self._handler = app.message_handler()
        self._handler.publisher = self

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties | None = None,
    ) -> None:
        assert properties is not None
        self.published.append((topic, msgspec.json.decode(payload), properties))

    async def receive(self, topic: str, payload: Any = b"", *, retain: bool = False, **properties: Any) -> None:
        data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        message = IncomingMessage(topic, data, qos=1, retain=retain, properties=MessageProperties(**properties))
        await self._handler.handle(message)

    async def work(self, *queues: str) -> None:
        """Run what is available."""
        order = QueueOrder(queues or ("critical", "default", "emails"))
        await self.app.worker(WorkerOptions(order, stop_when_empty=True)).run()

    async def size(self, queue: str) -> int:
        return await self.app.queues.size(queue)

    async def failures(self) -> list[str]:
        """The last lines of the tracebacks in failed_jobs."""
        rows = [*await self.app.queues.driver().failures.rows(), *await self.app.failures.rows()]
        return [row.exception.strip().rpartition("\n")[2] for row in {row.job_id: row for row in rows}.values()]


@pytest.fixture
async def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Example]:
    monkeypatch.setattr("core.settings.ROOT", tmp_path)  # the outbox is a file below
    monkeypatch.delenv("MAIL_HOST", raising=False)
    monkeypatch.setattr(mail, "_outbox", mail.Outbox())
    settings = load_settings(
        None, queue={"connection": "memory"}, database={"url": f"sqlite:///{tmp_path}/example.sqlite3"}
    )
    async with Application(settings) as app:
        await upgrade(app.database)
        yield Example(app)
