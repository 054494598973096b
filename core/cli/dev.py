"""`--dev`: everything in one go."""

from __future__ import annotations

import logging
import os

import click

from core.cli.running import run_loop


@click.command()
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after so many seconds."
)
def dev(seconds: float | None) -> None:
    """Try everything on embedded parts: broker, queue in SQLite, router, worker and a simulated fleet."""
    from core.roles.dev_role import DevRole

    async def run() -> bool:
        return await DevRole(seconds).run()

    if run_loop(run()):
        # Python would wait for these threads before it ends; their jobs run again after their leases.
        logging.shutdown()
        os._exit(0)
