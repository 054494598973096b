"""Data on standard output: as a table for people, as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print rows; `columns` are those of the table, while JSON has every field."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("None.")
        return
    cells = [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value).strip().rpartition("\n")[2][:80]  # a traceback's last line tells most
