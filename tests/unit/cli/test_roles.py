"""The commands that run until they are stopped: what they hand to their roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.application import Application
from core.roles import router_role, worker_processes, worker_role
from core.roles.supervisor import REPLACE_ME
from tests.unit.cli.conftest import CommandLine


class Told:
    """Stands in for a role, and remembers what it was told."""

    def __init__(self) -> None:
        self.roles: list[tuple[Any, ...]] = []
        self.is_used_up = False
        self.ended_well = True

    def router(self, app: Application, number: int | None, start_timeout: float | None) -> Any:
        told = self

        class Role:
            async def run(self) -> None:
                told.roles.append((number, start_timeout))

        return Role()

    async def worker(self, app: Application, options: Any, **rest: Any) -> bool:
        self.roles.append((options, rest))
        return self.is_used_up

    def processes(self, app: Application, count: int, options: list[str], **rest: Any) -> Any:
        told = self

        class Role:
            async def run(self, **waiting: Any) -> bool:
                told.roles.append((count, options, rest, waiting))
                return told.ended_well

        return Role()


HANDLED = "to: str\n\n    async def handle(self) -> None: ...\n"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(router_role, "RouterRole", told.router)
    monkeypatch.setattr(worker_role, "run_worker", told.worker)
    monkeypatch.setattr(worker_processes, "WorkerProcesses", told.processes)
    return told


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ([], (None, None)),
        (["router"], (None, None)),
        (["--router", "--start-timeout", "0"], (None, 0.0)),
        (["--start-timeout", "2"], (None, 2.0)),
        (["shared-process", "--start-timeout=1.5", "2"], (2, 1.5)),
    ],
    ids=["nothing", "word", "flag", "option", "shared"],
)
def test_the_router_is_run(run: CommandLine, told: Told, words: list[str], role: tuple[Any, ...]) -> None:
    assert run(*words).code == 0
    assert told.roles == [role]


def test_a_worker_has_the_settings_where_nothing_is_given(
    run: CommandLine, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"DEFAULT": "rest", "CONCURRENCY": "7", "LEASE": "9", "SLEEP": "0.5"}.items():
        monkeypatch.setenv(f"QUEUE_{name}", value)
    monkeypatch.setenv("APP_GRACE", "11")
    assert run("--queue-work").code == 0
    ((options, rest),) = told.roles
    assert (options.concurrency, options.lease, options.sleep, options.grace) == (7, 9.0, 0.5, 11.0)
    assert options.queues == options.queues.parse("rest")
    assert (options.max_jobs, options.stop_when_empty) == (None, False)
    assert rest.pop("is_child") is False
    assert set(rest.values()) == {None}


def test_flags_win_over_the_settings(run: CommandLine, told: Told) -> None:
    flags = "--queue a=3,b=1 --concurrency 2 --sleep 0.25 --max-jobs 5 --max-time 60 --memory 128 --stop-when-empty"
    more = "--connection redis --max-tries 1 --timeout 0 --start-timeout 2"
    assert run("queue-work", *flags.split(), *more.split()).code == 0
    ((options, rest),) = told.roles
    assert options.queues == options.queues.parse("a=3,b=1")
    assert (options.concurrency, options.sleep, options.max_jobs, options.max_time) == (2, 0.25, 5, 60.0)
    assert (options.memory, options.stop_when_empty) == (128.0, True)
    assert rest == {"connection": "redis", "max_tries": 1, "timeout": 0.0, "start_timeout": 2.0, "is_child": False}


def test_once_is_one_job_if_there_is_one(run: CommandLine, told: Told) -> None:
    assert run("--queue-work", "--once").code == 0
    ((options, _),) = told.roles
    assert (options.max_jobs, options.stop_when_empty) == (1, True)


@pytest.fixture
def runnable(run: CommandLine) -> None:
    """Every job of the app has its handle()."""
    jobs = Path(run.package, "jobs.py")
    jobs.write_text(jobs.read_text().replace("class Ping(Job):\n    pass", "").replace("to: str", HANDLED))


@pytest.mark.usefixtures("runnable")
def test_a_worker_says_what_it_serves_and_when_it_has_stopped(run: CommandLine) -> None:
    result = run("queue-work", "--queue", "a=2,b=1", "--concurrency", "3", "--stop-when-empty")
    assert result.code == 0
    lines = [line.partition(" routemq.worker: ")[2] for line in result.err.splitlines()]
    place = Path.cwd() / "queue.sqlite3"
    assert [line for line in lines if line] == [
        f"worker: queue a, b of the database sqlite:///{place}, 3 jobs side by side",
        "stopped",
    ]


def test_a_worker_with_a_class_that_cannot_run_does_not_start(run: CommandLine) -> None:
    result = run("queue-work", "--stop-when-empty")
    assert (result.code, f"Error: {run.package}.jobs.Ping has no handle()" in result.err) == (1, True)


def test_a_router_with_a_class_that_cannot_run_does_not_start(run: CommandLine) -> None:
    result = run("router", "--start-timeout", "0")
    assert (result.code, f"Error: {run.package}.jobs.Ping has no handle()" in result.err) == (1, True)


@pytest.mark.usefixtures("runnable")
def test_the_router_says_what_it_serves(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", "1")
    result = run("router", "--start-timeout", "0")
    assert result.code == 1
    place = Path.cwd() / "queue.sqlite3"
    assert (
        f"routemq.router: router: 2 routes, MQTT broker localhost:1, jobs go to the database sqlite:///{place}\n"
    ) in result.err


@pytest.mark.usefixtures("runnable")
def test_the_router_names_the_settings_of_a_port_that_does_not_answer(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PORT", "1")
    monkeypatch.setenv("MQTT_TLS_ENABLED", "true")
    monkeypatch.setenv("MQTT_TRANSPORT", "websockets")
    result = run("router", "--start-timeout", "0")
    assert "correct MQTT_BROKER, MQTT_PORT, MQTT_TLS_ENABLED=true, MQTT_TRANSPORT=websockets.\n" in result.err


def test_a_misspelt_setting_is_told_at_start(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_LEASES", "3")
    result = run("queue-stats")
    assert (result.code, "QUEUE_LEASES in the environment is no setting" in result.err) == (0, True)


def test_processes_are_told_what_a_single_worker_would_be(run: CommandLine, told: Told) -> None:
    flags = "--queue a=3,b=1.5 --concurrency 2 --sleep 0.25 --max-jobs 5 --memory 128 --connection redis --timeout 0"
    assert run("--queue-work", "--processes", "3", *flags.split(), "--max-time", "60", "--start-timeout", "2").code == 0
    ((count, options, rest, waiting),) = told.roles
    assert (count, rest) == (3, {"max_time": 60.0, "may_end": False})
    assert waiting == {"start_timeout": 2.0, "connection": "redis"}
    told.roles.clear()
    assert run("queue-work", "--supervised", *options).code == 0
    ((worker_options, worker_rest),) = told.roles
    assert worker_options.queues == worker_options.queues.parse("a=3,b=1.5")
    assert (worker_options.concurrency, worker_options.sleep, worker_options.max_jobs) == (2, 0.25, 5)
    assert (worker_options.memory, worker_options.max_time) == (128.0, None)  # the time is the supervisor's business
    assert (worker_rest["timeout"], worker_rest["is_child"]) == (0.0, True)


@pytest.mark.parametrize("flag", ["--once", "--stop-when-empty"])
def test_processes_that_end_by_themselves_may(run: CommandLine, told: Told, flag: str) -> None:
    assert run("--queue-work", "--processes", "2", flag).code == 0
    ((_, options, rest, _),) = told.roles
    assert options == [flag] and rest["may_end"]


def test_a_process_that_had_to_be_killed_is_a_failure(run: CommandLine, told: Told) -> None:
    told.ended_well = False
    assert run("--queue-work", "--processes", "2").code == 1


def test_a_supervised_worker_that_is_used_up_asks_for_another(run: CommandLine, told: Told) -> None:
    told.is_used_up = True
    assert run("--queue-work", "--supervised").code == REPLACE_ME
    assert run("--queue-work").code == 0
