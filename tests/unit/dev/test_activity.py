from __future__ import annotations

from core.dev.activity import SHOWN, Activity, EndedJob
from core.errors import PermanentError
from core.observability.events import (
    BrokerConnected,
    BrokerLost,
    Events,
    JobCompleted,
    JobFailed,
    JobRetried,
    JobsDispatched,
    MessageDropped,
    MessageFailed,
    MessageReceived,
    StoreBack,
    StoreLost,
)

MAIL = ("id-1", "app.jobs.send_email.SendEmail", "emails", 1)


def test_messages_are_counted_and_the_last_ones_kept() -> None:
    events = Events()
    activity = Activity(events)
    for number in range(SHOWN + 3):
        events.emit(MessageReceived(f"a/{number}", number))
    events.emit(MessageDropped("a/0", "beyond a limit"))
    assert (activity.messages, activity.messages_dropped) == (SHOWN + 3, 1)
    assert [topic for topic, _ in activity.last_messages] == [f"a/{number}" for number in range(3, SHOWN + 3)]


def test_jobs_are_counted_by_queue() -> None:
    events = Events()
    activity = Activity(events)
    events.emit(JobsDispatched("emails", 2))
    events.emit(JobRetried(*MAIL, 0.5, ValueError("busy\nvery"), 5.0))
    events.emit(JobCompleted(*MAIL, 0.0042))
    events.emit(JobFailed(*MAIL, 0.5, PermanentError("never")))
    emails = activity.queues["emails"]
    assert (emails.dispatched, emails.completed, emails.retried, emails.failed) == (2, 1, 1, 1)
    assert (activity.completed, activity.retried, activity.failed) == (1, 1, 1)
    assert list(activity.last_jobs) == [
        EndedJob("SendEmail", "emails", "retried", "again in 5 s: ValueError: busy"),
        EndedJob("SendEmail", "emails", "completed", "in 4 ms"),
        EndedJob("SendEmail", "emails", "failed", "PermanentError: never"),
    ]


def test_a_message_given_up_counts_as_failed() -> None:
    events = Events()
    activity = Activity(events)
    events.emit(MessageFailed("a/b", 3, ValueError("no")))
    assert activity.failed == 1
    assert activity.last_jobs[0] == EndedJob("a/b", "", "failed", "ValueError: no")


def test_a_job_of_unknown_class_has_a_word_too() -> None:
    events = Events()
    activity = Activity(events)
    events.emit(JobFailed("id-1", "", "emails", 1, 0.5, PermanentError("never")))
    assert activity.last_jobs[0].job == "(unknown)"


def test_troubles_come_and_go() -> None:
    events = Events()
    activity = Activity(events)
    events.emit(BrokerLost("127.0.0.1:1883", "routemq", "gone", 1.0))
    events.emit(StoreLost("queue", OSError("no route"), 1.0))
    assert activity.troubles == {"broker": "gone", "queue": "no route"}
    events.emit(BrokerConnected("127.0.0.1:1883", "routemq", True, 3))
    events.emit(StoreBack("queue"))
    assert activity.troubles == {}
