"""What goes into a column comes out of it, and what cannot go in is made to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from core.database.columns import UtcDateTime, payload_to_text, storable, text_to_payload

DIALECTS: list[Any] = [make_url(f"{name}://").get_dialect()() for name in ("sqlite", "postgresql", "mysql")]


@given(st.binary() | st.text().map(str.encode) | st.binary().map(lambda tail: b"data:;base64," + tail))
def test_a_payload_is_the_same_byte_for_byte(payload: bytes) -> None:
    text = payload_to_text(payload)
    assert "\0" not in text
    assert text_to_payload(text) == payload


def test_json_stays_readable() -> None:
    assert payload_to_text('{"to": "ä\U0001f680"}'.encode()) == '{"to": "ä\U0001f680"}'


@given(st.text(st.characters()))
def test_any_text_can_be_stored(text: str) -> None:
    assert "\0" not in storable(text)
    assert storable(text).encode().decode() == storable(text)


@pytest.mark.parametrize("text", ["", "Traceback:\n  ä日\U0001f680", "a\\b"])
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert storable(text) == text


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_pitfall_21_a_moment_of_any_zone_comes_back_in_utc(dialect: Any) -> None:
    column = UtcDateTime()
    east = datetime(2026, 3, 1, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5)))
    stored = column.process_bind_param(east, dialect)
    loaded = column.process_result_value(stored, dialect)
    assert loaded == east
    assert loaded is not None
    assert loaded.tzinfo is UTC


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_pitfall_21_a_naive_moment_is_refused(dialect: Any) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        UtcDateTime().process_bind_param(datetime(2026, 3, 1), dialect)  # noqa: DTZ001 (that is the point)
