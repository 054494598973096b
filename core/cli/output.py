"""Data on standard output: as a table for people, as JSON for programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any

import click


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print rows; `columns` are those of the table, while JSON has every field."""
    if as_json:
        print_json(rows)
        return
    print_cells([[_text(row[column]) for column in columns] for row in rows], columns)


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_cells(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    """A table; in a terminal, each row is one of its lines, and what is cut off ends with an ellipsis."""
    if not cells:
        click.echo("None.")
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        padded = (_one_line(cell).ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(_fitted("  ".join(padded).rstrip()))


def print_json(value: Any) -> None:
    click.echo(_json(value))


async def print_json_rows(rows: AsyncIterable[Any]) -> None:
    """An array, one element at a time: it may be larger than our memory."""
    separator = "["
    async for row in rows:
        click.echo(separator)
        click.echo(textwrap.indent(_json(row), "  "), nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def _json(value: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    """Without characters that move the cursor: devices choose their topics, and what errors quote."""
    return "".join(each if each.isprintable() else " " for each in text)


def _fitted(line: str) -> str:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
    return line if len(line) <= width else f"{line[: width - 1]}…"
