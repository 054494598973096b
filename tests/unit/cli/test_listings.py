"""`--route-list` and `--job-list`."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import CommandLine


def test_routes_are_listed_with_what_is_subscribed_to(run: CommandLine) -> None:
    assert run("--route-list", "--json").json() == [
        {
            "pattern": "sensors/{id}/telemetry",
            "topic_filter": "sensors/+/telemetry",
            "qos": 0,
            "shared": False,
            "worker_count": 1,
            "controller": "ingest",
            "deduplicate_by": "payload.id",
            "deduplicate_for": 3600.0,
            "ordered_by": "id",
        },
        {
            "pattern": "logs/{path:rest}",
            "topic_filter": "logs/#",
            "qos": 1,
            "shared": True,
            "worker_count": 3,
            "controller": "ingest",
            "deduplicate_by": None,
            "deduplicate_for": None,
            "ordered_by": None,
        },
    ]


def test_routes_are_a_table_for_people(run: CommandLine) -> None:
    lines = run("route-list").out.splitlines()
    keys = ["deduplicate_by", "deduplicate_for", "ordered_by"]
    assert lines[0].split() == ["pattern", "topic_filter", "qos", "shared", "worker_count", *keys, "controller"]
    assert lines[1].split()[-4:] == ["payload.id", "3600", "id", "ingest"]
    assert lines[2].split() == ["logs/{path:rest}", "logs/#", "1", "True", "3", "-", "-", "-", "ingest"]


def test_jobs_are_listed_with_their_own_options_and_the_configured_ones(run: CommandLine) -> None:
    jobs = {row.pop("job"): row for row in run("--job-list", "--json").json()}
    module = f"{run.package}.jobs"
    unset = {"soft_timeout": None, "execution": "auto", "version": 1, "ordering_key": None}
    own = {"queue": "emails", "max_tries": 5, "retry_after": 30, "timeout": 10}
    assert jobs[f"{module}.SendEmail"] == {**own, **unset}
    configured = {"queue": "default", "max_tries": 3, "retry_after": 60.0, "timeout": 60.0}
    assert jobs[f"{module}.Ping"] == {**configured, **unset}
    assert "core.handle_message.HandleMessage" in jobs


def test_jobs_are_a_table_for_people(run: CommandLine) -> None:
    with Path(run.package, "jobs.py").open("a") as file:
        file.write("class Sum(Job):\n    execution = 'process'\n    soft_timeout = 5\n    ordering_key = 'part'\n")
        file.write("class Part(Job):\n    def ordering_key(self):\n        return 'a'\n")
    lines = {line.split()[0]: line.split()[1:] for line in run("--job-list").out.splitlines()}
    limits = ["max_tries", "retry_after", "timeout", "soft_timeout"]
    assert lines["job"] == ["queue", *limits, "execution", "version", "ordering_key"]
    assert lines[f"{run.package}.jobs.Sum"] == ["default", "3", "60", "60", "5", "process", "1", "part"]
    assert lines[f"{run.package}.jobs.Part"][-1] == "ordering_key()"


def test_an_app_without_routes_says_so(run: CommandLine) -> None:
    Path(run.package, "routers.py").write_text("")
    assert run("route-list").out == "None.\n"


def test_a_route_that_cannot_be_is_named_with_its_file(run: CommandLine) -> None:
    with Path(run.package, "routers.py").open("a") as file:
        file.write("router.on('a/#/b', ingest)\n")
    result = run("route-list")
    assert (result.code, result.out) == (1, "")
    assert "routers.py" in result.err
    assert "'a/#/b'" in result.err
