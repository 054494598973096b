"""`--queue-failed` and what is done with failed jobs. A job is named by its id or its job id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from core.cli.output import print_json, print_table
from core.cli.running import json_option, run_in_application
from core.errors import RouteMQError
from core.queue.state import FailedJob

_COLUMNS = ("id", "job_id", "connection", "queue", "job", "attempts", "failed_at", "exception")


if TYPE_CHECKING:
    from core.application import Application


@click.command()
@click.option("--queue", help="Only those of this queue.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@json_option
def queue_failed(queue: str | None, limit: int | None, as_json: bool) -> None:
    """List the failed jobs, newest first."""

    async def work(app: Application) -> None:
        rows = await app.failures.rows(limit=limit, queue=queue)
        print_table([_row(each) for each in rows], _COLUMNS, as_json)

    run_in_application(work)


@click.command()
@click.argument("id")
@json_option
def queue_show(id: str, as_json: bool) -> None:  # noqa: A002, the word of the command line
    """Show a failed job whole: payload and traceback."""

    async def work(app: Application) -> None:
        row = _row(await _find(app, id))
        if as_json:
            print_json(row)
            return
        for name, value in row.items():
            click.echo(f"{name}: {value}" if "\n" not in str(value) else f"{name}:\n{value}")

    run_in_application(work)


@click.command()
@click.argument("id")
def queue_retry(id: str) -> None:  # noqa: A002
    """Put a failed job, or `all` of them, back on its queue."""

    async def work(app: Application) -> int:
        rows = await app.failures.rows() if id == "all" else [await _find(app, id)]
        by_connection: dict[str, list[FailedJob]] = defaultdict(list)
        for row in rows:
            by_connection[row.connection].append(row)
        return sum([await app.queues.driver(name).retry_failed(mine) for name, mine in by_connection.items()])

    _report("Put back", work)


@click.command()
@click.argument("id")
def queue_forget(id: str) -> None:  # noqa: A002
    """Delete the record of a failed job."""

    async def work(app: Application) -> int:
        return await app.failures.forget([(await _find(app, id)).job_id])

    _report("Deleted", work)


@click.command()
def queue_flush() -> None:
    """Delete the records of all failed jobs."""
    _report("Deleted", lambda app: app.failures.flush())


@click.command()
@click.option("--hours", type=click.FloatRange(min=0), default=720, show_default=True, help="Older than so many hours.")
def queue_prune(hours: float) -> None:
    """Delete old records of failed jobs."""
    _report("Deleted", lambda app: app.failures.prune(datetime.now(UTC) - timedelta(hours=hours)))


def _report(word: str, work: Callable[[Application], Awaitable[int]]) -> None:
    click.echo(f"{word} {run_in_application(work)} failed jobs.", err=True)


async def _find(app: Application, key: str) -> FailedJob:
    row = await app.failures.find(key)
    if row is None:
        raise RouteMQError(f"There is no failed job {key!r}; `python main.py --queue-failed` lists those there are.")
    return row


def _row(failed: FailedJob) -> dict[str, Any]:
    return {
        "id": failed.id,
        "job_id": failed.job_id,
        "connection": failed.connection,
        "queue": failed.queue,
        "job": failed.job,
        "payload": failed.payload.decode("utf-8", "backslashreplace"),
        "exception": failed.exception,
        "attempts": failed.attempts,
        "failed_at": failed.failed_at.isoformat(),
    }
