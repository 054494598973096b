"""What happens in this process, counted for the views of `--dev`. Listens to events, and nothing else."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from core.observability.events import (
    BrokerConnected,
    BrokerLost,
    Events,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobRetried,
    JobsDispatched,
    MessageDropped,
    MessageFailed,
    MessageReceived,
    StoreBack,
    StoreLost,
)

SHOWN = 8
"""So many of the last messages and jobs are kept."""


@dataclass
class QueueActivity:
    dispatched: int = 0
    completed: int = 0
    retried: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class EndedJob:
    job: str
    queue: str
    outcome: str
    detail: str


class Activity:
    """Counters since the start, the last messages and jobs, and what is wrong at the moment."""

    def __init__(self, events: Events) -> None:
        self.messages = 0
        self.messages_failed = 0
        self.messages_dropped = 0
        self.queues: dict[str, QueueActivity] = defaultdict(QueueActivity)
        self.last_messages: deque[tuple[str, int]] = deque(maxlen=SHOWN)
        self.last_jobs: deque[EndedJob] = deque(maxlen=SHOWN)
        self.troubles: dict[str, str] = {}
        self._count_messages(events)
        self._count_jobs(events)
        self._watch_servers(events)

    @property
    def completed(self) -> int:
        return sum(queue.completed for queue in self.queues.values())

    @property
    def retried(self) -> int:
        return sum(queue.retried for queue in self.queues.values())

    @property
    def failed(self) -> int:
        """Jobs and messages: both are rows of failed_jobs."""
        return self.messages_failed + sum(queue.failed for queue in self.queues.values())

    def _count_messages(self, events: Events) -> None:
        events.subscribe(MessageReceived, self._received)
        events.subscribe(MessageFailed, self._message_failed)
        events.subscribe(MessageDropped, self._message_dropped)

    def _count_jobs(self, events: Events) -> None:
        events.subscribe(JobsDispatched, self._dispatched)
        events.subscribe(JobCompleted, self._completed)
        events.subscribe(JobRetried, self._retried)
        events.subscribe(JobFailed, self._failed)

    def _watch_servers(self, events: Events) -> None:
        events.subscribe(BrokerLost, lambda event: self._trouble("broker", event.reason))
        events.subscribe(BrokerConnected, lambda event: self._well("broker"))
        events.subscribe(StoreLost, lambda event: self._trouble(event.what, str(event.exception)))
        events.subscribe(StoreBack, lambda event: self._well(event.what))

    def _received(self, event: MessageReceived) -> None:
        self.messages += 1
        self.last_messages.append((event.topic, event.size))

    def _message_failed(self, event: MessageFailed) -> None:
        self.messages_failed += 1
        self.last_jobs.append(EndedJob(event.topic, "", "failed", _text(event.exception)))

    def _message_dropped(self, event: MessageDropped) -> None:
        self.messages_dropped += 1

    def _dispatched(self, event: JobsDispatched) -> None:
        self.queues[event.queue].dispatched += event.count

    def _completed(self, event: JobCompleted) -> None:
        self.queues[event.queue].completed += 1
        self._ended(event, "completed", f"in {event.seconds * 1000:.0f} ms")

    def _retried(self, event: JobRetried) -> None:
        self.queues[event.queue].retried += 1
        self._ended(event, "retried", f"again in {event.retry_in:g} s: {_text(event.exception)}")

    def _failed(self, event: JobFailed) -> None:
        self.queues[event.queue].failed += 1
        self._ended(event, "failed", _text(event.exception))

    def _ended(self, event: JobEvent, outcome: str, detail: str) -> None:
        name = event.job.rpartition(".")[2] or "(unknown)"
        self.last_jobs.append(EndedJob(name, event.queue, outcome, detail))

    def _trouble(self, what: str, reason: str) -> None:
        self.troubles[what] = reason

    def _well(self, what: str) -> None:
        self.troubles.pop(what, None)


def _text(exception: BaseException) -> str:
    return f"{type(exception).__name__}: {exception}".splitlines()[0]
