"""The view of `--dev` where standard output is no terminal: a line each second, and one for each failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.dev.activity import Activity, QueueActivity
from core.dev.rate import Rate
from core.dev.surroundings import Surroundings
from core.observability.events import Events, JobFailed, MessageFailed


class PlainView:
    def __init__(
        self, activity: Activity, events: Events, surroundings: Surroundings, write: Callable[[str], None]
    ) -> None:
        """`write` gets one line at a time, without its end."""
        self._activity = activity
        self._surroundings = surroundings
        self._rate = Rate(lambda: activity.messages)
        self._write = write
        events.subscribe(JobFailed, self._job_failed)
        events.subscribe(MessageFailed, self._message_failed)

    async def run(self) -> None:
        """Write until cancelled."""
        there = self._surroundings
        self._write(f"MQTT broker at {there.broker}, database {there.database}, log in {there.log_file}")
        for note in there.notes():
            self._write(note)
        for command, use in there.hints():
            self._write(f"try: {command}  # {use}")
        while True:
            await asyncio.sleep(1)
            self._write(self._line())

    def _line(self) -> str:
        activity = self._activity
        queues = [f"{name}: {_counts(activity.queues[name])}" for name in sorted(activity.queues)]
        troubles = [f"trouble with {what}: {reason}" for what, reason in activity.troubles.items()]
        return " | ".join([f"{activity.messages} messages, {self._rate.now():.1f}/s", *queues, *troubles])

    def _job_failed(self, event: JobFailed) -> None:
        self._write(f"failed: {event.job} {event.job_id} on {event.queue}: {event.exception!r}")

    def _message_failed(self, event: MessageFailed) -> None:
        self._write(f"failed: message on {event.topic}: {event.exception!r}")


def _counts(queue: QueueActivity) -> str:
    return f"{queue.completed} completed, {queue.retried} retried, {queue.failed} failed"
