"""What an error of a database means for whoever asked: a lost race, a lost server, or a missing table."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_RACES = {
    "40001",  # PostgreSQL: could not serialise
    "40P01",  # ... deadlock
    "55P03",  # ... lock not available
    1205,  # MySQL: lock wait timeout
    1213,  # ... deadlock
    1020,  # MariaDB: record has changed since it was read
}
_MISSING = {
    "42P01",  # PostgreSQL: no such table
    "42703",  # ... column
    1146,  # MySQL: no such table
    1054,  # ... column
}
_UNREACHABLE_CLASSES = ("08", "28", "3D", "53", "57P")
"""PostgreSQL's classes: connection, authorisation, no such database, out of resources, shutting down."""
_UNREACHABLE_CODES = {1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1290, 2002, 2003, 2006, 2013, 2055}
"""MySQL's: too many connections, access denied, no such database, shutting down, gone away, ..."""


def is_race(error: BaseException) -> bool:
    """Whether another transaction was in the way, so that the same work will succeed if done again."""
    return isinstance(error, DBAPIError) and (_code(error) in _RACES or _sqlite_says(error, "locked", "busy"))


def is_stale_connection(error: BaseException) -> bool:
    """Whether a connection had gone while it lay in the pool; a new one may do."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_missing_table(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and (_code(error) in _MISSING or _sqlite_says(error, "no such"))


def is_unreachable(error: BaseException) -> bool:
    """Whether the server gave no answer, or none that has to do with what was asked."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, (OSError, PoolTimeoutError))
    return error.connection_invalidated or _is_unreachable_code(_code(error)) or _is_sqlite_trouble(error)


def _is_unreachable_code(code: str | int | None) -> bool:
    return code.startswith(_UNREACHABLE_CLASSES) if isinstance(code, str) else code in _UNREACHABLE_CODES


def _code(error: DBAPIError) -> str | int | None:
    """PostgreSQL's SQLSTATE, MySQL's error number, or nothing for SQLite."""
    arguments = getattr(error.orig, "args", ())
    if arguments and isinstance(arguments[0], int):
        return arguments[0]
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def _sqlite_says(error: DBAPIError, *words: str) -> bool:
    """SQLite's errors carry no code before Python 3.11's `sqlite_errorcode`, which the adapter drops."""
    return (
        isinstance(error, OperationalError) and _code(error) is None and any(word in str(error.orig) for word in words)
    )


def _is_sqlite_trouble(error: DBAPIError) -> bool:
    return _sqlite_says(error, "locked", "busy", "unable to open", "disk", "readonly", "full")
