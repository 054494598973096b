"""`--queue-stats` and `--queue-clear`: what is on the queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from core.cli.output import count, print_table
from core.cli.queue_name import queue_name
from core.cli.running import connection_option, json_option, run_in_application

_COLUMNS = ("queue", "available", "scheduled", "executing", "retryable", "failed", "oldest_seconds")


if TYPE_CHECKING:
    from core.application import Application


@click.command()
@click.option("--queue", type=queue_name, help="Only this queue.")
@connection_option
@json_option
def queue_stats(queue: str | None, connection: str | None, as_json: bool) -> None:
    """Count the jobs of each queue by state."""

    async def work(app: Application) -> None:
        driver = app.queues.driver(connection)
        import msgspec

        names = {queue} if queue else {*await driver.queues(), app.settings.queue.default}
        stats = [await driver.stats(name) for name in sorted(names)]
        print_table([msgspec.to_builtins(each) for each in stats], _COLUMNS, as_json)

    run_in_application(work)


@click.command()
@click.argument("queue", type=queue_name)
@connection_option
def queue_clear(queue: str, connection: str | None) -> None:
    """Delete the jobs of QUEUE that nobody executes, messages that were put back included. Failed ones stay."""

    async def work(app: Application) -> None:
        deleted = await app.queues.driver(connection).clear(queue)
        click.echo(f"Deleted {count(deleted, 'job')} of queue {queue!r}.", err=True)

    run_in_application(work)
