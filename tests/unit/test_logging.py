"""How events are worded, and where logs go."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import fields

from core.errors import PayloadError
from core.observability import events
from core.observability.events import Event, Events, JobFailed, JobStarted
from core.observability.logging import configure_logging, log_events

SAMPLES: dict[str, Any] = {
    "str": "a word",
    "int": 7,
    "float": 0.25,
    "bool": True,
    "BaseException": ValueError("it broke"),
}
SILENT = {events.Event, events.JobEvent, events.MessageReceived, events.JobsDispatched}
"""Roots, and what happens too often to be a line each."""


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Each test may set logging up; pytest's own handlers come back after it."""
    root, named = logging.getLogger(), [logging.getLogger(name) for name in ("routemq", "app")]
    handlers, levels = root.handlers[:], [(each, each.level) for each in (root, *named)]
    root.handlers = []
    yield
    root.handlers = handlers
    for logger, level in levels:
        logger.setLevel(level)
    logging.captureWarnings(False)


def sample(kind: type[Event]) -> Event:
    return kind(**{field.name: SAMPLES[field.type.__name__] for field in fields(kind)})


def logged(*told: Event) -> None:
    bus = Events()
    log_events(bus)
    for event in told:
        bus.emit(event)


ALL = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)]
JOB = ("0190-id", "app.jobs.send_email.SendEmail", "emails", 2)


@pytest.mark.parametrize("kind", [each for each in ALL if each not in SILENT], ids=lambda kind: kind.__name__)
def test_every_event_that_an_operator_wants_has_a_line(kind: type[Event], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", "json")
    logged(sample(kind))
    line = json.loads(capsys.readouterr().err)
    assert (line["name"], line["event"]) == ("routemq", kind.__name__)
    assert line["message"]


@pytest.mark.parametrize(
    ("event", "level", "words"),
    [
        (events.BrokerLost("here:1883", "me", "refused", 1.25), "WARNING", "here:1883: refused; trying again in 1.2 s"),
        (events.SubscriptionRefused("a/#", "not authorized"), "ERROR", "'a/#': not authorized. Allow it"),
        (events.MessageFailed("a/b", 3, ValueError("no")), "ERROR", "python main.py --queue-failed"),
        (events.MessageFailed("a/b", 1, ValueError("no")), "ERROR", "gave up the message on a/b after 1 try: "),
        (JobFailed(*JOB, 0.1, ValueError("no")), "ERROR", "SendEmail 0190-id on 'emails' (try 2): ValueError('no')"),
        (JobFailed("0190-id", "", "emails", 1, 0.1, ValueError()), "ERROR", "a job of unknown class 0190-id"),
        (events.JobRetried(*JOB, 0.1, ValueError("no"), 60.0), "WARNING", "ValueError('no'); again in 60 s"),
        (events.StoreLost("database here", OSError("gone"), 0.5), "WARNING", "cannot reach the database here: gone"),
        (events.ProcessDied("router-1", 7, -9, 1.0), "ERROR", "router-1 (process 7) ended with exit code -9"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else None,
)
def test_a_line_says_what_where_and_what_next(
    event: Event, level: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("DEBUG", "text")
    logged(event)
    line = capsys.readouterr().err.splitlines()[0]
    assert f" {level} " in line
    assert words in line


def test_a_failure_is_logged_with_its_traceback_and_a_retry_without(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("it broke")
    except ValueError as error:
        failed, retried = JobFailed(*JOB, 0.1, error), events.JobRetried(*JOB, 0.1, error, 1.0)
    configure_logging("DEBUG", "text")
    logged(retried)
    assert "Traceback" not in capsys.readouterr().err
    logged(failed)
    assert "Traceback (most recent call last):" in capsys.readouterr().err


def test_a_traceback_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    logged(JobFailed(*JOB, 0.1, ValueError("two\nlines")))
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["levelname"], told["event"]) == ("ERROR", "JobFailed")
    assert "ValueError: two\nlines" in told["exc_info"]
    assert told["time"]


def test_logs_go_to_standard_error_and_never_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "text")
    logged(events.StoreBack("database"))
    logging.getLogger("app.jobs").info("mine")
    out, err = capsys.readouterr()
    assert out == ""
    assert "the database is back" in err
    assert "app.jobs: mine" in err


@pytest.mark.parametrize(("level", "lines"), [("DEBUG", 1), ("INFO", 0), ("ERROR", 0)])
def test_the_level_holds_for_events(level: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level, "text")
    logged(JobStarted(*JOB))
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_libraries_are_heard_from_a_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", "text")
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble")
    assert "some.library: trouble" in (err := capsys.readouterr().err)
    assert "chatter" not in err


def test_a_word_with_percent_signs_is_logged_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", "text")
    logged(events.MessageDropped("a/%s/%d", "100 %"))
    assert "dropped a message on a/%s/%d: 100 %" in capsys.readouterr().err


def test_a_devices_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    bus = Events()
    log_events(bus)
    bus.emit(events.MessageFailed("pumps/7", 1, PayloadError("no JSON")))
    assert capsys.readouterr().err.count("\n") == 1


def test_a_forgotten_await_is_heard_of(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    warnings.showwarning("coroutine 'dispatch' was never awaited", RuntimeWarning, "controller.py", 7)
    assert "'dispatch' was never awaited" in capsys.readouterr().err


FORGED = "a\n2026-01-01 00:00:00,000 ERROR   routemq: forged\r\x1b[2J"


def test_a_topic_forges_no_line_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", "text")
    logged(events.MessageDropped(FORGED, "a duplicate"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "dropped a message on a\\n2026-01-01 00:00:00,000 ERROR   routemq: forged\\r\\x1b[2J: a" in line


def test_the_further_lines_of_a_message_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", "text")
    logging.getLogger("app").info("first, of %s\n", FORGED)
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith(" app: first, of a")
    assert others == ["    2026-01-01 00:00:00,000 ERROR   routemq: forged", "    \\x1b[2J"]
