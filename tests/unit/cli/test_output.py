"""Data on standard output."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from core.cli.output import print_json, print_table

ROWS = [
    {"id": 1, "queue": "emails", "seconds": 1.26, "exception": "Traceback:\n  File\nValueError: no\n", "hidden": "x"},
    {"id": 100, "queue": "a", "seconds": 0.0, "exception": "E" * 100, "hidden": None},
]
COLUMNS = ("id", "queue", "seconds", "exception")


def test_a_table_is_aligned_and_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(ROWS, COLUMNS, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "id   queue   seconds  exception",
        "1    emails  1.3      Traceback:   File ValueError: no",
        f"100  a       0        {'E' * 100}",
    ]


def test_in_a_terminal_a_row_is_one_line_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_table(ROWS, COLUMNS, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "100  a       0        EEEEEEE…"
    assert max(map(len, lines)) == 30


def test_a_cell_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"topic": "a\x1b[2J\rb"}], ("topic",), as_json=False)
    assert capsys.readouterr().out == "topic\na [2J b\n"


def test_json_has_every_field_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(ROWS, COLUMNS, as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_no_rows_are_a_word_for_people_and_a_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([], COLUMNS, as_json=False)
    assert capsys.readouterr().out == "None.\n"
    print_table([], COLUMNS, as_json=True)
    assert capsys.readouterr().out == "[]\n"


def test_an_empty_text_is_an_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"a": "", "b": "x"}], ("a", "b"), as_json=False)
    assert capsys.readouterr().out == "a  b\n   x\n"


def test_json_is_indented_and_keeps_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": datetime(2026, 1, 1, tzinfo=UTC), "name": "é"})
    assert capsys.readouterr().out == '{\n  "at": "2026-01-01T00:00:00Z",\n  "name": "é"\n}\n'
