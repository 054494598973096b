"""How large a text is inside a statement of MySQL's, and how a traceback is made to fit."""

from __future__ import annotations

import pytest

from core.database.packet import escaped_size, shortened


@pytest.mark.parametrize(("text", "size"), [("", 0), ("abc", 3), ('"', 2), ("ä", 2), ("\n\\'", 6), ("\U0001f680", 4)])
def test_what_is_escaped_counts_twice(text: str, size: int) -> None:
    assert escaped_size(text) == size


def test_what_fits_is_left_as_it_is() -> None:
    assert shortened("ä" * 100, 200) == "ä" * 100


@pytest.mark.parametrize("character", ["a", '"', "\U0001f680"])
def test_what_does_not_fit_keeps_its_beginning_and_its_end(character: str) -> None:
    text = "first" + character * 10_000 + "last"
    short = shortened(text, 4000)
    assert short.startswith("first")
    assert short.endswith("last")
    assert escaped_size(short) <= 4000 + 200
