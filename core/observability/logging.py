"""Words events as log lines, and sets logging up: to standard error, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from core.errors import EnvelopeError, MessageError
from core.observability import events
from core.observability.events import Event, Events

_log = logging.getLogger("routemq")


def configure_logging(level: str = "INFO", format: str = "text") -> None:  # noqa: A002, the setting's name
    """Send the program's logs to standard error; standard output belongs to data."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json_formatter() if format == "json" else _text_formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("routemq").setLevel(level)
    logging.getLogger("app").setLevel(level)
    logging.captureWarnings(True)  # so that a forgotten `await dispatch(…)` shows up among the logs


def log_events(bus: Events) -> None:
    """Write a line for each event that an operator wants to read."""
    for kind, (level, word) in _WORDS.items():
        bus.subscribe(kind, _writer(level, word))


def _writer(level: int, word: Callable[[Any], str]) -> Callable[[Event], None]:
    def write(event: Event) -> None:
        if _log.isEnabledFor(level):
            _log.log(level, "%s", word(event), exc_info=_traceback(event, level), extra={"event": type(event).__name__})

    return write


def _traceback(event: Event, level: int) -> BaseException | None:
    """The exception whose traceback is worth its lines: not one that a device's message or a payload brought about."""
    exception: BaseException | None = getattr(event, "exception", None)
    return None if level < logging.ERROR or isinstance(exception, MessageError | EnvelopeError) else exception


class _TextFormatter(logging.Formatter):
    """Devices choose their topics: nothing in a message moves the cursor or begins a line that looks like ours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name in the standard library
        lines = [record.message] if hasattr(record, "event") else record.message.splitlines()
        record.message = "\n    ".join(map(_visible, lines))
        return super().formatMessage(record)


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _text_formatter() -> logging.Formatter:
    return _TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter("{asctime}{levelname}{name}{message}", style="{", rename_fields={"asctime": "time"})


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"


def _job(event: events.JobEvent) -> str:
    return f"{event.job or 'a job of unknown class'} {event.job_id} on {event.queue!r} (try {event.attempts})"


_WORDS: dict[type[Event], tuple[int, Callable[[Any], str]]] = {
    events.BrokerConnected: (
        logging.INFO,
        lambda e: (
            f"connected to the MQTT broker at {e.address} as {e.client_id!r}, {e.subscriptions} subscriptions, "
            f"{'its session was kept' if e.session_present else 'a new session'}"
        ),
    ),
    events.BrokerLost: (
        logging.WARNING,
        lambda e: f"no connection to the MQTT broker at {e.address}: {e.reason}; trying again in {e.retry_in:.1f} s",
    ),
    events.SubscriptionRefused: (
        logging.ERROR,
        lambda e: f"the broker refused the subscription {e.topic_filter!r}: {e.reason}. Allow it in its access list.",
    ),
    events.MessageHandled: (
        logging.DEBUG,
        lambda e: f"handled {e.topic} by {e.route} in {e.seconds * 1000:.1f} ms",
    ),
    events.MessageRetried: (
        logging.WARNING,
        lambda e: f"the controller of {e.topic} failed (try {e.attempt}): {e.exception!r}; again in {e.retry_in:.1f} s",
    ),
    events.MessageFailed: (
        logging.ERROR,
        lambda e: (
            f"gave up the message on {e.topic} after {_tries(e.attempts)}: {e.exception!r}. It is in failed_jobs; "
            f"`python main.py --queue-failed` shows it"
        ),
    ),
    events.MessageDropped: (logging.DEBUG, lambda e: f"dropped a message on {e.topic}: {e.reason}"),
    events.JobStarted: (logging.DEBUG, lambda e: f"started {_job(e)}"),
    events.JobCompleted: (logging.INFO, lambda e: f"completed {_job(e)} in {e.seconds * 1000:.1f} ms"),
    events.JobRetried: (
        logging.WARNING,
        lambda e: f"{_job(e)} failed: {e.exception!r}; again in {e.retry_in:g} s",
    ),
    events.JobFailed: (logging.ERROR, lambda e: f"gave up {_job(e)}: {e.exception!r}. It is in failed_jobs"),
    events.JobReleased: (logging.INFO, lambda e: f"handed back {_job(e)}"),
    events.LeaseLost: (
        logging.WARNING,
        lambda e: f"the outcome of {_job(e)} came too late: its lease is another's by now, and nothing was changed",
    ),
    events.HookFailed: (
        logging.ERROR,
        lambda e: f"failed() of {_job(e)} raised; its row in failed_jobs stands",
    ),
    events.JobDeduplicated: (
        logging.INFO,
        lambda e: f"kept out a duplicate {e.job} on {e.queue!r}: job {e.job_id} stands for it",
    ),
    events.JobsRescued: (logging.WARNING, lambda e: f"gave back {e.count} of the jobs whose worker was lost"),
    events.StoreLost: (
        logging.WARNING,
        lambda e: f"cannot reach the {e.what}: {e.exception}; trying again in {e.retry_in:.1f} s",
    ),
    events.StoreBack: (logging.INFO, lambda e: f"the {e.what} is back"),
    events.ProcessStarted: (logging.INFO, lambda e: f"started {e.name} as process {e.pid}"),
    events.ProcessReplaced: (logging.INFO, lambda e: f"{e.name} (process {e.pid}) is used up and replaced"),
    events.ProcessDied: (
        logging.ERROR,
        lambda e: f"{e.name} (process {e.pid}) ended with exit code {e.exit_code}; again in {e.restart_in:.1f} s",
    ),
}
