"""Runs a documented app in a process of its own: `documented_app.py MESSAGES BLOCKS`, in the app's folder.

Messages go through its routes, then the blocks are executed one after another, as they are read, then a worker runs
what is available. What came of it is printed as JSON.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from core.application import Application
from core.job import Job
from core.mqtt.message import IncomingMessage, MessageProperties
from core.observability.events import Events, JobCompleted, JobFailed, JobRetried, MessageDropped
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder


class Report:
    """What happened, and what the controllers published."""

    def __init__(self, events: Events) -> None:
        self.completed: list[str] = []
        self.troubles: list[str] = []
        self.dropped: list[str] = []
        self.published: list[tuple[str, str]] = []
        events.subscribe(JobCompleted, lambda event: self.completed.append(event.job))
        events.subscribe(JobRetried, lambda event: self.troubles.append(repr(event.exception)))
        events.subscribe(JobFailed, lambda event: self.troubles.append(repr(event.exception)))
        events.subscribe(MessageDropped, lambda event: self.dropped.append(event.topic))

    async def publish(self, topic: str, payload: bytes | str, **options: Any) -> None:
        self.published.append((topic, payload if isinstance(payload, str) else payload.decode()))


async def main(messages: Path, blocks: Path) -> None:
    async with Application() as app:
        report = Report(app.events)
        await receive(app, report, json.loads(messages.read_text()))
        failed_messages = [row.exception for row in await app.failures.rows()]
        await execute(app, json.loads(blocks.read_text()))
        queues = QueueOrder(("default", "emails"))
        await app.worker(WorkerOptions(queues, stop_when_empty=True)).run()
        routes = [route.pattern.text for route in app.routes.routes]
        sys.stderr.write(json.dumps({**vars(report), "failed_messages": failed_messages, "routes": routes}))


async def receive(app: Application, report: Report, messages: list[dict[str, Any]]) -> None:
    handler = app.message_handler()
    handler.publisher = report
    for each in messages:
        properties = MessageProperties(response_topic=each.get("response_topic"))
        await handler.handle(IncomingMessage(each["topic"], each["payload"].encode(), qos=1, properties=properties))


async def execute(app: Application, blocks: list[str]) -> None:
    """Run blocks in one module, in which `await` may stand at the top; its jobs are known from then on."""
    module = ModuleType("printed")
    for block in blocks:
        code = compile(block, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = FunctionType(code, vars(module))()
        if inspect.isawaitable(running):
            await running
    for each in vars(module).values():
        if inspect.isclass(each) and each.__module__ == module.__name__ and issubclass(each, Job):
            app.jobs.register(each)


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
