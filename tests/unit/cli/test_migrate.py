"""`--migrate`, `--migrate-status` and `--migrate-rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.application import Application
from core.job import Job
from core.queue.queue_manager import dispatch
from core.queue.state import Failure
from tests.unit.cli.conftest import CommandLine


def applied(run: CommandLine) -> list[bool]:
    return [row["applied"] for row in run("--migrate-status", "--json").json()]


def test_migrate_brings_an_empty_database_up_to_date_and_logs_what_it_did(fresh: CommandLine) -> None:
    assert not any(applied(fresh))
    result = fresh("--migrate")
    assert (result.code, result.out) == (0, "")
    assert "applied 0001" in result.err
    assert "queue.sqlite3 is up to date." in result.err
    assert all(applied(fresh))


def test_migrating_again_changes_nothing(run: CommandLine) -> None:
    result = run("migrate")
    assert result.code == 0
    assert "applied" not in result.err


def test_the_status_is_a_table_for_people(run: CommandLine) -> None:
    first, *rows = run("migrate-status").out.splitlines()
    assert first.split() == ["revision", "description", "applied"]
    assert all(row.endswith("True") for row in rows)
    assert rows[0].startswith("0001")


def test_rollback_takes_the_last_one_back_until_there_is_none(run: CommandLine) -> None:
    count = len(applied(run))
    for left in reversed(range(count)):
        assert "rolled back" in run("--migrate-rollback").err
        assert applied(run).count(True) == left
    result = run("--migrate-rollback")
    assert (result.code, result.err) == (0, "There was nothing to roll back.\n")


class Mail(Job):
    pass


async def one_waits(app: Application) -> None:
    await dispatch(Mail())


async def one_failed(app: Application) -> None:
    await app.failures.record("redis", [Failure("x", "emails", "", b"{}", "no", 1)])


@pytest.mark.parametrize(("fill", "told"), [(one_waits, "1 jobs on queues and 0 failed"), (one_failed, "and 1 failed")])
def test_tables_that_hold_jobs_are_dropped_by_force_alone(run: CommandLine, fill: Any, told: str) -> None:
    run.inside(fill)
    for _ in applied(run)[1:]:
        assert run("--migrate-rollback").code == 0
    result = run("--migrate-rollback")
    assert (result.code, told in result.err, "--force" in result.err) == (1, True, True)
    assert applied(run).count(True) == 1
    assert run("--migrate-rollback", "--force").code == 0
    assert not any(applied(run))


@pytest.mark.parametrize("words", [["queue-stats"], ["queue-failed"], ["queue-work"], [], ["migrate-rollback"]])
def test_what_needs_tables_makes_no_file_to_hold_them(fresh: CommandLine, words: list[str]) -> None:
    file = Path.cwd() / "queue.sqlite3"
    assert fresh(*words).err == (
        f"Error: The database sqlite:///{file} does not exist yet. Run: python main.py --migrate\n"
    )
    assert not file.exists()


def test_the_status_makes_no_file_either(fresh: CommandLine) -> None:
    assert not any(applied(fresh))
    assert fresh("route-list").code == 0
    assert not Path("queue.sqlite3").exists()


def test_one_directory_is_made_for_the_file_and_more_is_a_mistake(
    fresh: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{here}/storage/a.db")
    assert fresh("--migrate").code == 0
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{here}/nowhere/storage/a.db")
    result = fresh("--migrate")
    assert result.code == 1
    assert result.err.startswith(f"Error: DATABASE_URL names a file in {here}/nowhere/storage, which cannot be made: ")
