"""`HandleMessage`: the framework's own job, as which a message that could not be handled is recorded.

Retried from failed_jobs, it runs the message through its route again, in a worker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.clock import Clock, SystemClock
from core.errors import NotRunningError
from core.job import Job, job_name
from core.mqtt.message import IncomingMessage, MessageProperties
from core.queue.driver import FailureStore
from core.queue.envelope import write_envelope
from core.queue.state import Failure
from core.queue.traceback_text import traceback_text

RunMessage = Callable[[IncomingMessage], Awaitable[None]]


class HandleMessage(Job):
    """A message as it came from the broker."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: MessageProperties = MessageProperties()

    async def handle(self) -> None:
        if not _runners:
            raise NotRunningError("No Application is open in this process, so there are no routes.")
        await _runners[-1](
            IncomingMessage(self.topic, self.payload, qos=self.qos, retain=self.retain, properties=self.properties)
        )


def bind(runner: RunMessage) -> None:
    """Run messages with this from now on."""
    _runners.append(runner)


def unbind(runner: RunMessage) -> None:
    _runners.remove(runner)


_runners: list[RunMessage] = []


class FailedMessages:
    """Records messages that were given up as failed `HandleMessage` jobs."""

    def __init__(self, store: FailureStore, connection: str, queue: str, clock: Clock | None = None) -> None:
        self._store = store
        self._connection = connection
        self._queue = queue
        self._clock = clock or SystemClock()

    async def record(self, message: IncomingMessage, exception: BaseException, attempts: int, job_id: str) -> None:
        """Store a message with the whole traceback of what it failed with; `job_id` names its record."""
        job = HandleMessage(
            topic=message.topic,
            payload=message.payload,
            qos=message.qos,
            retain=message.retain,
            properties=message.properties,
        )
        failure = Failure(
            job_id=job_id,
            queue=self._queue,
            job=job_name(HandleMessage),
            payload=write_envelope(job, job_id, self._queue, self._clock.now()),
            exception=traceback_text(exception),
            attempts=attempts,
        )
        await self._store.record(self._connection, [failure])
