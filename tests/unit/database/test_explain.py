"""What is said of an error of the database."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from config.database import DatabaseSettings
from core.database.engine import Database
from core.database.error_kinds import is_race, is_unreachable
from core.errors import QueueUnavailableError


class _Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("UPDATE jobs", {}, sqlite3.OperationalError("database is locked")),
        DBAPIError("UPDATE jobs", {}, _Deadlock("deadlock detected")),
        OperationalError("UPDATE jobs", {}, Exception(1205, "Lock wait timeout exceeded")),
    ],
    ids=["sqlite", "postgresql", "mysql"],
)
def test_a_database_that_is_busy_is_not_called_away(error: DBAPIError) -> None:
    with pytest.raises(QueueUnavailableError, match=r"mysql://h/n is busy: .*(locked|deadlock|Lock wait)") as busy:
        Database("mysql://user:hush@h/n").explain(error)
    assert "Start it" not in str(busy.value)
    assert busy.value.server == "mysql://h/n"
    assert busy.value.__cause__ is error


class _Postgres(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__("said by PostgreSQL")
        self.sqlstate = sqlstate


def _raised(code: str | int) -> DBAPIError:
    original = _Postgres(code) if isinstance(code, str) else Exception(code, "said by MySQL")
    return DBAPIError("UPDATE jobs", {}, original)


CUT_SHORT = {"57014": "query cancelled", 1317: "interrupted", 1969: "max_statement_time", 3024: "max_execution_time"}
REFUSING = {
    "25006": "read-only",
    "53100": "disk full",
    "58030": "I/O error",
    1021: "disk full",
    1026: "error on write",
    1041: "out of memory",
    1047: "no part of its Galera cluster",
    1114: "table full",
    1180: "error during COMMIT",
    1290: "--read-only",
    1792: "read-only transaction",
    1836: "read-only mode",
    3100: "no quorum",
}
OF_THE_JOB = {"22001": "too long", "22P05": "untranslatable", "23505": "duplicate", 1062: "duplicate", 1406: "too long"}


@pytest.mark.parametrize("code", CUT_SHORT, ids=CUT_SHORT.get)
def test_a_statement_that_was_cut_short_met_a_busy_server(code: str | int) -> None:
    """And is no server that is away, to the app's own queries: one that is always too slow would be tried for ever."""
    with pytest.raises(QueueUnavailableError, match=r"h/n is busy: .*said by"):
        Database("mysql://h/n").explain(_raised(code))
    assert not is_unreachable(_raised(code))


@pytest.mark.parametrize("code", REFUSING, ids=REFUSING.get)
def test_a_server_that_refuses_all_work_is_waited_for(code: str | int) -> None:
    with pytest.raises(QueueUnavailableError, match=r"h/n takes no work for now: .*said by") as refusing:
        Database("mysql://h/n").explain(_raised(code))
    assert "DATABASE_URL" in str(refusing.value)
    assert refusing.value.server == "mysql://h/n"
    assert is_unreachable(_raised(code))


@pytest.mark.parametrize("code", OF_THE_JOB, ids=OF_THE_JOB.get)
def test_what_is_wrong_with_a_job_is_not_waited_for(code: str | int) -> None:
    with pytest.raises(DBAPIError):
        Database("mysql://h/n").explain(_raised(code))
    assert not is_unreachable(_raised(code))


@pytest.mark.parametrize("code", ["40001", 1213, 1412, 3101])
def test_work_that_lost_a_race_is_done_again(code: str | int) -> None:
    assert is_race(_raised(code))


def test_the_settings_do_not_show_a_password() -> None:
    settings = DatabaseSettings.model_validate({"url": "mysql://user:hush@h/n"})
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)
