"""`--dev`: everything in one go."""

from __future__ import annotations

import click

from core.cli.numbers import some_seconds


@click.command()
@click.option("--for", "seconds", type=some_seconds, help="Stop by itself after so many seconds.")
@click.option(
    "--configured-stores", is_flag=True, help="Use DATABASE_URL, QUEUE_CONNECTION and REDIS_URL, and the data there."
)
def dev(seconds: float | None, configured_stores: bool) -> None:
    """Try everything on embedded parts: broker, queue in SQLite, router, worker and a simulated fleet."""
    from core.cli.event_loop import run_loop
    from core.roles.dev_role import DevRole

    run_loop(DevRole(seconds, configured_stores=configured_stores).run())
