"""Data on standard output: as a table for people, as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any

import click


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print rows; `columns` are those of the table, while JSON has every field."""
    if as_json:
        print_json(rows)
        return
    print_cells(cells_of(rows, columns), columns)


def cells_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[list[str]]:
    """What a table shows of rows: little, however much they hold."""
    return [[_text(row[column]) for column in columns] for row in rows]


def print_cells(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    if not cells:
        click.echo("None.")
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


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
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value).strip().rpartition("\n")[2][:80]  # a traceback's last line tells most
