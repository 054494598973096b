"""INSERT where the row may be there already, which each dialect spells in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Insert, Table
from sqlalchemy.dialects import mysql, postgresql, sqlite

NewValues = Callable[[Any], Mapping[str, ColumnElement[Any]]]
"""Given the columns of the row that was to be inserted, what the row that is there gets, by column."""


def insert_or_update(dialect: str, table: Table, key: str, values: NewValues) -> Insert:
    """Changes the row that has the same `key`. A row whose values stay as they are is locked all the same."""
    if dialect in ("mysql", "mariadb"):
        into = mysql.insert(table)
        return into.on_duplicate_key_update(dict(values(into.inserted)))
    upsert = _insert(dialect, table)
    return upsert.on_conflict_do_update(index_elements=[key], set_=dict(values(upsert.excluded)))


def insert_missing(dialect: str, table: Table, key: str) -> Insert:
    """Leaves the row that has the same `key` as it is. Hides no other error, as MySQL's INSERT IGNORE would."""
    if dialect in ("mysql", "mariadb"):
        return mysql.insert(table).on_duplicate_key_update({key: table.c[key]})
    return _insert(dialect, table).on_conflict_do_nothing(index_elements=[key])


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
