"""An exception as failed_jobs holds it."""

from __future__ import annotations

from core.queue.traceback_text import traceback_text


def caught(message: str) -> Exception:
    try:
        try:
            raise KeyError("inner cause")
        except KeyError as error:
            raise ValueError(message) from error
    except ValueError as error:
        return error


def test_the_whole_traceback_is_there_causes_and_notes_included() -> None:
    error = caught("it broke")
    error.add_note("while mailing pump-7")
    text = traceback_text(error)
    assert text.startswith("Traceback (most recent call last):")
    assert "KeyError: 'inner cause'" in text
    assert "direct cause of the following exception" in text
    assert text.endswith("ValueError: it broke\nwhile mailing pump-7\n")
    assert f'{__file__}", line' in text


def test_an_exception_that_was_never_raised_has_a_line() -> None:
    assert traceback_text(ValueError("no")) == "ValueError: no\n"


def test_characters_that_no_store_takes_are_written_out() -> None:
    text = traceback_text(caught("file \udcff, pump \U0001f680"))
    assert "file \\udcff, pump \U0001f680" in text
    assert text.encode().decode() == text


def test_a_group_tells_of_each_of_its_exceptions() -> None:
    text = traceback_text(ExceptionGroup("both", [ValueError("one"), TypeError("other")]))
    assert "ValueError: one" in text
    assert "TypeError: other" in text
