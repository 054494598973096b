"""What a person reads of a failed job."""

from __future__ import annotations

import traceback

import pytest

from core.cli.failure import message_in, payload_text, reason
from core.clock import SystemClock
from core.queue.state import FailedJob


def raised(error: BaseException, cause: BaseException | None = None) -> str:
    try:
        raise error from cause
    except BaseException as caught:
        return "".join(traceback.format_exception(caught))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (raised(ValueError("no\nsecond line")), "ValueError: no"),
        (raised(ValueError("outer"), KeyError("inner")), "ValueError: outer"),
        (raised(ValueError("outer"), OSError(raised(KeyError("quoted")))), "ValueError: outer"),
        ("".join(traceback.format_exception(ValueError("never raised\nat all"))), "ValueError: never raised"),
        (raised(ExceptionGroup("both", [ValueError("a"), KeyError("b")])), "ExceptionGroup: both (2 sub-exceptions)"),
        ("", ""),
    ],
    ids=["of two lines", "with a cause", "quoting a traceback", "not raised", "group", "empty"],
)
def test_the_reason_is_the_line_of_the_exception_itself(text: str, line: str) -> None:
    assert reason(text) == line


def test_a_reason_without_raise_behind_a_cause_that_was_raised() -> None:
    error = ValueError("outer")
    try:
        raise KeyError("inner")
    except KeyError as inner:
        error.__cause__ = inner
    assert reason("".join(traceback.format_exception(error))) == "ValueError: outer"


@pytest.mark.parametrize("payload", [b"", b"\xff", b'{"v": 99}'])
def test_what_cannot_be_read_is_no_message(payload: bytes) -> None:
    row = FailedJob(1, "x", "database", "default", "HandleMessage", payload, "no", 1, SystemClock().now())
    assert message_in(row) is None


def test_a_payload_is_text_or_digits() -> None:
    assert payload_text("21 °C".encode()) == "21 °C"
    assert payload_text(b"\xff\x01") == "ff 01 (hexadecimal: it is no UTF-8)"
