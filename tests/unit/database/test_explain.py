"""What is said of an error of the database."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from config.database import DatabaseSettings
from core.database.engine import Database
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
    assert busy.value.__cause__ is error


def test_the_settings_do_not_show_a_password() -> None:
    settings = DatabaseSettings.model_validate({"url": "mysql://user:hush@h/n"})
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)
