"""Events and those who subscribe to them."""

from __future__ import annotations

import logging

import pytest

from core.observability.events import Event, Events, JobCompleted, JobEvent, JobsRescued, JobStarted, StoreBack

STARTED = JobStarted("id", "app.jobs.a.A", "emails", 1)


def test_a_subscriber_hears_of_its_kind_alone() -> None:
    bus, heard = Events(), list[Event]()
    bus.subscribe(JobStarted, heard.append)
    bus.emit(StoreBack("database"))
    bus.emit(STARTED)
    assert heard == [STARTED]


def test_a_subscriber_to_a_kind_hears_of_those_below_it() -> None:
    bus, all_events, jobs = Events(), list[Event](), list[Event]()
    bus.subscribe(Event, all_events.append)
    bus.subscribe(JobEvent, jobs.append)
    completed = JobCompleted("id", "a", "emails", 1, seconds=0.1)
    for event in (STARTED, StoreBack("database"), completed):
        bus.emit(event)
    assert jobs == [STARTED, completed]
    assert len(all_events) == 3


def test_subscribers_hear_in_the_order_in_which_they_came() -> None:
    bus, heard = Events(), list[str]()
    bus.subscribe(JobsRescued, lambda event: heard.append("first"))
    bus.subscribe(JobsRescued, lambda event: heard.append("second"))
    bus.emit(JobsRescued(1))
    assert heard == ["first", "second"]


def test_a_subscriber_that_raises_is_logged_and_changes_nothing_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: Event) -> None:
        raise ValueError("no")

    bus, heard = Events(), list[Event]()
    bus.subscribe(JobStarted, broken)
    bus.subscribe(JobStarted, heard.append)
    bus.emit(STARTED)
    assert heard == [STARTED]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("routemq.events", logging.ERROR)
    assert "a subscriber of JobStarted raised" in record.message
    assert record.exc_info


def test_who_subscribes_after_an_event_hears_of_the_next() -> None:
    bus, heard = Events(), list[Event]()
    bus.emit(STARTED)
    bus.subscribe(JobEvent, heard.append)
    bus.emit(STARTED)
    assert heard == [STARTED]


def test_wanted_tells_whether_anybody_listens() -> None:
    bus = Events()
    assert not bus.wanted(JobStarted)
    bus.subscribe(JobEvent, lambda event: None)
    assert bus.wanted(JobStarted)
    assert not bus.wanted(JobsRescued)


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        STARTED.queue = "other"  # type: ignore[misc]
