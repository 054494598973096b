"""`--migrate`, `--migrate-status` and `--migrate-rollback`."""

from __future__ import annotations

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
