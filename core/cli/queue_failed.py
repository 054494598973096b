"""`--queue-failed` and what is done with failed jobs. A job is named by its id or its job id."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from core.cli.failure import message_in, payload_text, reason
from core.cli.numbers import at_least_one, hours
from core.cli.output import count, print_cells, print_json, print_json_rows
from core.cli.queue_name import queue_name
from core.cli.running import json_option, run_in_application
from core.errors import RouteMQError
from core.queue.state import FailedJob

_COLUMNS = ("id", "failed_at", "connection", "queue", "job", "attempts", "exception")
_PAGE = 100
"""Rows at a time; one may be as large as QUEUE_MAX_PAYLOAD and a traceback."""


if TYPE_CHECKING:
    from core.application import Application


@click.command()
@click.option("--queue", type=queue_name, help="Only those of this queue.")
@click.option("--limit", type=at_least_one, help="At most so many.")
@json_option
def queue_failed(queue: str | None, limit: int | None, as_json: bool) -> None:
    """List the failed jobs, newest first."""

    async def work(app: Application) -> None:
        pages = _pages(app, limit=limit, queue=queue, payloads=as_json)
        if as_json:
            await print_json_rows(_row(each) async for page in pages for each in page)
        else:
            print_cells([await _cells(app, each) async for page in pages for each in page], _COLUMNS)

    run_in_application(work)


@click.command()
@click.argument("id")
@json_option
def queue_show(id: str, as_json: bool) -> None:  # noqa: A002, the word of the command line
    """Show a failed job whole: payload and traceback."""

    async def work(app: Application) -> None:
        failed = await _find(app, id)
        if as_json:
            print_json(_row(failed))
            return
        for name, value in _told(failed).items():
            click.echo(f"{name}: {value}" if "\n" not in str(value) else f"{name}:\n{value}")

    run_in_application(work)


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--queue", type=queue_name, help="With `all`: only those of this queue.")
def queue_retry(ids: tuple[str, ...], queue: str | None) -> None:
    """Put failed jobs, or `all` of them, back on their queues."""
    if ids != ("all",) and (queue is not None or "all" in ids):
        raise click.UsageError("Write `all`, with or without --queue, or the ids of failed jobs.")

    async def work(app: Application) -> int:
        if ids != ("all",):
            back = await _put_back(app, await _find_each(app, ids, "put back"))
        else:
            back = sum([await _put_back(app, page) async for page in _pages(app, queue=queue)], Counter())
        _tell_of_other_connections(app, back)
        return back.total()

    _report("Put back", work)


def _tell_of_other_connections(app: Application, back: Counter[str]) -> None:
    """A job goes back to the queue that it came from, which the workers of today may not serve."""
    configured = app.settings.queue.connection
    for name, number in sorted(back.items()):
        if number and name != configured:
            click.echo(
                f"{count(number, 'job')} went back on the connection {name}, which QUEUE_CONNECTION={configured} does "
                f"not name: a worker runs them with --connection {name}.",
                err=True,
            )


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def queue_forget(ids: tuple[str, ...]) -> None:
    """Delete the records of failed jobs."""

    async def work(app: Application) -> int:
        return await app.failures.forget([each.job_id for each in await _find_each(app, ids, "deleted")])

    _report("Deleted", work)


@click.command()
def queue_flush() -> None:
    """Delete the records of all failed jobs."""
    _report("Deleted", lambda app: app.failures.flush())


@click.command()
@click.option("--hours", "age", type=hours, default=720, show_default=True, help="Older than so many hours.")
def queue_prune(age: float) -> None:
    """Delete old records of failed jobs."""
    _report("Deleted", lambda app: app.failures.prune(datetime.now(UTC) - timedelta(hours=age)))


def _report(word: str, work: Callable[[Application], Awaitable[int]]) -> None:
    click.echo(f"{word} {count(run_in_application(work), 'failed job')}.", err=True)


async def _pages(
    app: Application, *, limit: int | None = None, queue: str | None = None, payloads: bool = True
) -> AsyncIterator[list[FailedJob]]:
    """The failed jobs, newest first, a few at a time: all may be more than our memory holds, or one transaction.

    Each page begins where the last ended, so that what fails anew meanwhile is not met again.
    """
    left = sys.maxsize if limit is None else limit
    last: FailedJob | None = None
    while left > 0:
        size = min(_PAGE, left)
        page = await app.failures.rows(limit=size, queue=queue, before=last, payloads=payloads)
        if page:
            yield page
        if len(page) < size:
            return
        left, last = left - size, page[-1]


async def _put_back(app: Application, rows: Sequence[FailedJob]) -> Counter[str]:
    """How many, by their connections."""
    by_connection: dict[str, list[FailedJob]] = defaultdict(list)
    for row in rows:
        by_connection[row.connection].append(row)
    return Counter({name: await app.queues.driver(name).retry_failed(mine) for name, mine in by_connection.items()})


async def _find_each(app: Application, keys: Sequence[str], word: str) -> list[FailedJob]:
    """Every one that is named, once; an error where one is not there, before anything is done to the others."""
    try:
        found = [await _find(app, key) for key in keys]
    except RouteMQError as error:
        raise RouteMQError(f"{error} Nothing was {word}.") from None
    return list({each.job_id: each for each in found}.values())


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


async def _cells(app: Application, failed: FailedJob) -> list[str]:
    return [
        str(failed.id),
        f"{failed.failed_at:%Y-%m-%d %H:%M:%SZ}",
        failed.connection,
        failed.queue,
        await _name(app, failed),
        str(failed.attempts),
        reason(failed.exception),
    ]


async def _name(app: Application, failed: FailedJob) -> str:
    """A job's class or a message's topic, which stands in the payload: of those alone it is loaded."""
    from core.handle_message import HandleMessage
    from core.job import job_name

    whole = await app.failures.find(failed.job_id) if failed.job == job_name(HandleMessage) else None
    message = message_in(whole) if whole else None
    return f"message {message.topic}" if message else failed.job


def _told(failed: FailedJob) -> dict[str, Any]:
    """What is shown of a row, the traceback last: it is the longest."""
    row = _row(failed)
    traceback, payload, message = row.pop("exception"), row.pop("payload"), message_in(failed)
    if message:
        row["topic"], payload = message.topic, payload_text(message.payload)
    return {**row, "payload": payload, "reason": reason(traceback), "exception": traceback}
