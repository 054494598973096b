"""What an error of a database means for whoever asked: a lost race, a missing table, a server that is lost or
that takes no work for now. What is none of these is wrong with what was asked, and is the asker's.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_RACES = {
    "40001",  # PostgreSQL: could not serialise
    "40P01",  # ... deadlock
    "55P03",  # ... lock not available
    1205,  # MySQL: lock wait timeout
    1213,  # ... deadlock
    1020,  # MariaDB: record has changed since it was read
    1412,  # ... the table's definition has changed
    3101,  # MySQL's group replication: another member was first
}
_CUT_SHORT = {
    "57014",  # PostgreSQL: cancelled, by statement_timeout or an operator
    1317,  # MySQL: interrupted by KILL QUERY
    1969,  # MariaDB: max_statement_time exceeded
    3024,  # MySQL: max_execution_time exceeded
}
_MISSING = {
    "42P01",  # PostgreSQL: no such table
    "42703",  # ... column
    1146,  # MySQL: no such table
    1054,  # ... column
}
_UNREACHABLE_CLASSES = ("08", "28", "3D", "57P")
"""PostgreSQL's classes: connection, authorisation, no such database, shutting down."""
_UNREACHABLE_CODES = {1044, 1045, 1049, 1053, 1129, 1130, 2002, 2003, 2006, 2013, 2055}
"""MySQL's: access denied, no such database, shutting down, gone away, ..."""
_READ_ONLY = {
    "25006",  # PostgreSQL: a standby, or a primary that was demoted
    1290,  # MySQL: it runs with --read-only or --super-read-only
    1792,  # ... transactions are read-only
    1836,  # ... read-only mode
}
_REFUSING_CLASSES = ("53", "58000", "58030")
"""PostgreSQL's: out of connections, memory or disk; trouble with the system underneath."""
_REFUSING_CODES = {
    1021,  # MySQL: disk full
    1026,  # ... error on writing a file
    1037,  # ... out of memory
    1040,  # ... too many connections
    1041,  # ... out of memory
    1047,  # ... unknown command, which is how a node says that it is in no Galera cluster
    1114,  # ... table full
    1135,  # ... no further thread
    1180,  # ... error during COMMIT
    1203,  # ... too many connections of one user
    1206,  # ... lock table full
    1226,  # ... a user's limit is reached
    1637,  # ... too many transactions at once
    3100,  # ... group replication has no quorum
}


def is_race(error: BaseException) -> bool:
    """Whether another transaction was in the way, so that the same work will succeed if done again."""
    return isinstance(error, DBAPIError) and (_code(error) in _RACES or _sqlite_says(error, "locked", "busy"))


def is_cut_short(error: BaseException) -> bool:
    """Whether the server or its operator ended a statement that took too long.

    For our own statements, which are quick on a server that is well. A query of the app's may be slow each time, so
    to such ones this is no server that is away: what asks would be tried for ever.
    """
    return isinstance(error, DBAPIError) and _code(error) in _CUT_SHORT


def is_stale_connection(error: BaseException) -> bool:
    """Whether a connection had gone while it lay in the pool; a new one may do."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_missing_table(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and (_code(error) in _MISSING or _sqlite_says(error, "no such"))


def is_read_only(error: BaseException) -> bool:
    """Whether the server takes no writes, as after a failover that made a standby of it."""
    return isinstance(error, DBAPIError) and _code(error) in _READ_ONLY


def is_refusing(error: BaseException) -> bool:
    """Whether the server is there and takes no work, whatever it is: it is read-only, full, out of memory."""
    is_refusal = isinstance(error, DBAPIError) and _is_one_of(_code(error), _REFUSING_CLASSES, _REFUSING_CODES)
    return is_refusal or is_read_only(error)


def is_unreachable(error: BaseException) -> bool:
    """Whether the server gave no answer, or none that has to do with what was asked."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, (OSError, PoolTimeoutError)) or _is_lost_while_connecting(error)
    is_away = error.connection_invalidated or _is_one_of(_code(error), _UNREACHABLE_CLASSES, _UNREACHABLE_CODES)
    return is_away or is_refusing(error) or _is_sqlite_trouble(error)


def _is_lost_while_connecting(error: BaseException) -> bool:
    """What asyncmy says of a connection that was closed before it could set an option of its socket."""
    return isinstance(error, RuntimeError) and "does not expose socket" in str(error)


def _is_one_of(code: str | int | None, classes: tuple[str, ...], codes: AbstractSet[int]) -> bool:
    return code.startswith(classes) if isinstance(code, str) else code in codes


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
