"""A failed job as a person reads it: what it was, and why it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import RouteMQError

if TYPE_CHECKING:
    from core.handle_message import HandleMessage
    from core.queue.state import FailedJob

_BEFORE_AN_EXCEPTION = ("Traceback (most recent call last):", "The above exception was", "During handling of the above")


def reason(traceback: str) -> str:
    """The line `Type: text` of the exception that a traceback ends with, whose text may have lines of its own."""
    lines = [
        line.removeprefix("  | ") for line in traceback.strip("\n").splitlines()
    ]  # an exception group's have a margin
    starts = [number for number, line in enumerate(lines) if line.startswith(_BEFORE_AN_EXCEPTION)]
    rest = lines[starts[-1] + 1 :] if starts else lines
    return next((line for line in rest if line and not line[0].isspace()), lines[-1] if lines else "")


def message_in(failed: FailedJob) -> HandleMessage | None:
    """The message that a row holds, if it is one that can be read."""
    from core.handle_message import HandleMessage
    from core.queue.envelope import load_job, read_envelope
    from core.queue.registry import JobRegistry

    try:
        job = load_job(read_envelope(failed.payload), JobRegistry([HandleMessage]))
    except RouteMQError:
        return None
    return job if isinstance(job, HandleMessage) else None


def payload_text(payload: bytes) -> str:
    """As text where it is some, and as hexadecimal digits otherwise."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return f"{payload.hex(' ')} (hexadecimal: it is no UTF-8)"
