"""Commands as flags and words, exit codes, and where data and complaints go."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from core.cli import queue_stats
from core.cli.main import COMMANDS, command_first
from core.errors import SettingError, UnavailableError
from tests.unit.cli.conftest import CommandLine

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", ""),
        ("queue-work", "queue-work"),
        ("--queue-work", "queue-work"),
        ("--queue-work --queue emails", "queue-work --queue emails"),
        ("--queue emails --queue-work", "queue-work --queue emails"),
        ("--queue emails --queue-work --once", "queue-work --queue emails --once"),
        ("--queue-retry all", "queue-retry all"),
        ("--queue-retry=7", "queue-retry 7"),
        ("--json --queue-show=7", "queue-show --json 7"),
        ("queue-work --queue --migrate", "queue-work --queue --migrate"),
        ("--start-timeout 1", "--start-timeout 1"),
        ("--nothing", "--nothing"),
        ("queue-wrk", "queue-wrk"),
    ],
)
def test_a_command_may_be_a_flag_or_a_word_and_options_may_come_before_it(written: str, read: str) -> None:
    assert command_first(written.split()) == read.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_it_is_said_to_be(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    assert isinstance(getattr(import_module(module), attribute), click.Command)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--queue-work", "--help"], ["queue-work", "-h"]])
def test_help_is_data_and_needs_no_settings(
    fresh: CommandLine, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PORT", "nonsense")
    result = fresh(*words)
    assert (result.code, result.err) == (0, "")
    assert "Usage: main.py" in result.out


def test_help_lists_every_command_but_the_routers_own(fresh: CommandLine) -> None:
    text = fresh("--help").out
    missing = [name for name in COMMANDS if f"\n  {name} " not in text]
    assert missing == ["shared-process"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["queue-wrk"], "No such command 'queue-wrk'"),
        (["--queue-wrk"], "No such option"),
        (["queue-stats", "--wrong"], "No such option"),
        (["queue-stats", "extra"], "unexpected extra argument"),
        (["queue-retry"], "Missing argument 'ID...'"),
        (["queue-clear"], "Missing argument 'QUEUE'"),
        (["queue-stats", "--connection", "sqs"], "'sqs' is not one of 'redis', 'database'"),
        (["queue-failed", "--limit", "0"], "0 is not in the range 1<=x<="),
        (["queue-failed", "--limit", "-1"], "-1 is not in the range 1<=x<="),
        (["queue-prune", "--hours", "-1"], "-1.0 is not in the range 0<=x<="),
        (["queue-prune", "--hours", "soon"], "'soon' is not a valid float"),
        (["migrate", "--start-timeout", "-1"], "-1.0 is not in the range 0<=x<="),
        (["queue-stats", "--queue", ""], "'' is no name for a queue: use 1 to 191 printable characters"),
        (["queue-clear", ""], "'' is no name for a queue"),
        (["--queue-clear="], "Missing argument 'QUEUE'"),
        (["queue-failed", "--queue", ""], "'' is no name for a queue"),
        (["queue-retry", "all", "--queue", ""], "'' is no name for a queue"),
        (["queue-stats", "--queue", "a,b"], "'a,b' is no name for a queue"),
        (["--queue-work", "--queue", ""], "--queue '' names an empty queue"),
        (["--queue-work", "--queue", "a,,b"], "--queue 'a,,b' names an empty queue"),
        (["--queue-work", "--queue", "a==1"], "'a=' is no name for a queue"),
        (["--queue-work", "--concurrency", "-1"], "-1 is not in the range 1<=x<="),
        (["--queue-work", "--concurrency", "0"], "0 is not in the range 1<=x<="),
        (["--queue-work", "--sleep", "-1"], "-1.0 is not in the range 0<x<="),
        (["--queue-work", "--max-jobs", "-1"], "-1 is not in the range 1<=x<="),
        (["--queue-work", "--max-tries", "-1"], "-1 is not in the range 1<=x<="),
        (["--queue-work", "--max-time", "-1"], "-1.0 is not in the range 0<x<="),
        (["--queue-work", "--timeout", "-1"], "-1.0 is not in the range 0<=x<="),
        (["--queue-work", "--memory", "-1"], "-1.0 is not in the range 0<x<="),
        (["queue-prune", "--hours", "1e12"], "is not in the range 0<=x<="),
        (["queue-prune", "--hours", "nan"], "'nan' is not a finite number"),
        (["queue-prune", "--hours", "inf"], "'inf' is not a finite number"),
        (["--queue-work", "--sleep", "nan"], "'nan' is not a finite number"),
        (["--queue-work", "--max-time", "inf"], "'inf' is not a finite number"),
        (["--queue-work", "--timeout", "1e300"], "is not in the range 0<=x<="),
        (["--queue-work", "--memory", "nan"], "'nan' is not a finite number"),
        (["--queue-work", "--concurrency", "9" * 30], "is not in the range 1<=x<="),
        (["--start-timeout", "nan"], "'nan' is not a finite number"),
        (["--start-timeout", "2", "queue-stats"], "--start-timeout stands behind the command"),
        (["dev", "--for", "inf"], "'inf' is not a finite number"),
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_and_says_what_is_wrong(fresh: CommandLine, words: list[str], complaint: str) -> None:
    result = fresh(*words)
    assert (result.code, result.out) == (2, "")
    assert "Usage: main.py" in result.err
    assert complaint in result.err


def test_a_wrong_setting_ends_with_1_and_no_traceback(fresh: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_LEASE", "often")
    result = fresh("queue-stats")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error: QUEUE_LEASE='often' is not usable: ")
    assert "Traceback" not in result.err


def test_a_wrong_database_url_is_told_without_its_password(fresh: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "oracle://user:hush@here/x")
    result = fresh("queue-failed")
    assert result.code == 1
    assert result.err.startswith("Error: DATABASE_URL='oracle://user:***@here/x' is not usable: ")


def test_errors_out_of_several_tasks_at_once_are_told_without_a_traceback(
    fresh: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = ExceptionGroup("inner", [SettingError("the first"), UnavailableError("the second")])
    monkeypatch.setattr(queue_stats, "run_in_application", Mock(side_effect=ExceptionGroup("outer", [inner])))
    result = fresh("queue-stats")
    assert (result.code, result.out, result.err) == (1, "", "Error: the first\nError: the second\n")


def test_a_defect_among_several_errors_is_not_hidden(fresh: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    group = ExceptionGroup("both", [SettingError("ours"), ZeroDivisionError("a defect")])
    monkeypatch.setattr(queue_stats, "run_in_application", Mock(side_effect=group))
    with pytest.raises(ExceptionGroup):
        fresh("queue-stats")


def test_a_package_that_is_not_there_is_named(fresh: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PACKAGE", "nowhere_to_be_found")
    result = fresh("job-list")
    assert result.code == 1
    assert result.err.startswith("Error: APP_PACKAGE='nowhere_to_be_found' is not usable")


@pytest.mark.parametrize("words", [["queue-stats"], ["queue-failed"], ["queue-retry", "all"], ["queue-flush"]])
def test_without_its_tables_a_command_names_the_one_that_makes_them(fresh: CommandLine, words: list[str]) -> None:
    result = fresh(*words)
    assert (result.code, result.out) == (1, "")
    assert "Run: python main.py --migrate" in result.err
    assert "Traceback" not in result.err


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "main.py"), *words], capture_output=True, text=True, check=False)


def test_the_program_itself_runs_commands(fresh: CommandLine) -> None:
    done = program("--migrate-status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"applied": false' in done.stdout


def test_the_program_ends_with_2_on_bad_usage(fresh: CommandLine) -> None:
    done = program("--queue-wrk")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_python_that_lacks_the_packages_is_told_what_to_run() -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "main.py")], capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {sys.executable} lacks click. Run scripts/install, then: .venv/bin/python main.py\n"
    )
