"""`--queue-stats` and `--queue-clear`."""

from __future__ import annotations

from core.application import Application
from core.job import Job
from core.queue.queue_manager import dispatch, queue
from tests.unit.cli.conftest import CommandLine


class SendEmail(Job):
    queue = "emails"


async def fill(app: Application) -> None:
    """Two available, one scheduled, one executing."""
    await queue.bulk([SendEmail(), SendEmail(), SendEmail()])
    await queue.later(60, SendEmail())
    await app.queues.driver().fetch(["emails"], 1, 60.0)


def test_the_default_queue_is_there_before_the_first_job(run: CommandLine) -> None:
    assert run("--queue-stats", "--json").json() == [
        {
            "queue": "default",
            "available": 0,
            "scheduled": 0,
            "executing": 0,
            "retryable": 0,
            "failed": 0,
            "oldest_seconds": 0.0,
        }
    ]


def test_jobs_are_counted_by_queue_and_state(run: CommandLine) -> None:
    run.inside(fill)
    default, emails = run("queue-stats", "--json").json()
    assert default["queue"] == "default"
    assert emails.pop("oldest_seconds") >= 0
    assert emails == {
        "queue": "emails",
        "available": 2,
        "scheduled": 1,
        "executing": 1,
        "retryable": 0,
        "failed": 0,
    }


def test_the_counts_may_be_of_one_queue(run: CommandLine) -> None:
    run.inside(fill)
    assert [row["queue"] for row in run("queue-stats", "--queue", "emails", "--json").json()] == ["emails"]


def test_the_counts_are_a_table_for_people(run: CommandLine) -> None:
    run.inside(fill)
    lines = run("queue-stats").out.splitlines()
    assert lines[0].split() == ["queue", "available", "scheduled", "executing", "retryable", "failed", "oldest_seconds"]
    assert lines[2].split()[:6] == ["emails", "2", "1", "1", "0", "0"]


def test_clear_deletes_what_nobody_executes_on_that_queue_alone(run: CommandLine) -> None:
    async def and_another(app: Application) -> None:
        await fill(app)
        await dispatch(SendEmail(), queue="other")

    run.inside(and_another)
    result = run("--queue-clear", "emails")
    assert (result.code, result.out, result.err) == (0, "", "Deleted 3 jobs of queue 'emails'.\n")
    counts = {row["queue"]: (row["available"], row["executing"]) for row in run("queue-stats", "--json").json()}
    assert counts == {"default": (0, 0), "emails": (0, 1), "other": (1, 0)}


def test_clearing_an_empty_queue_deletes_nothing(run: CommandLine) -> None:
    assert run("--queue-clear=nothing").err == "Deleted 0 jobs of queue 'nothing'.\n"


def test_one_job_is_not_plural(run: CommandLine) -> None:
    run.inside(lambda app: dispatch(SendEmail(), queue="other"))
    assert run("--queue-clear=other").err == "Deleted 1 job of queue 'other'.\n"
