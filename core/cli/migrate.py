"""`--migrate`: the database's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from core.cli.output import print_table
from core.cli.running import json_option, run_in_application, start_timeout_option

if TYPE_CHECKING:
    from core.application import Application


@click.command()
@start_timeout_option
def migrate(start_timeout: float | None) -> None:
    """Bring the database up to date."""

    async def work(app: Application) -> None:
        from core.database.migrations import upgrade

        await app.wait_for_database(start_timeout)
        applied = await upgrade(app.database)
        for revision in applied:
            click.echo(f"applied {revision}", err=True)
        click.echo(f"The database {app.database.address} is up to date.", err=True)

    run_in_application(work, needs_tables=False)


@click.command()
@json_option
def migrate_status(as_json: bool) -> None:
    """Show which migrations are applied."""

    async def work(app: Application) -> None:
        from core.database.migrations import status

        rows = [
            {"revision": each.revision, "description": each.description, "applied": each.applied}
            for each in await status(app.database)
        ]
        print_table(rows, ("revision", "description", "applied"), as_json)

    run_in_application(work, needs_tables=False)


@click.command()
@click.option("--force", is_flag=True, help="Even where jobs, waiting or failed, are deleted with their tables.")
def migrate_rollback(force: bool) -> None:
    """Take the last migration back. Its tables are dropped; those that hold jobs only with --force."""

    async def work(app: Application) -> None:
        from core.database.migrations import rollback

        revision = await rollback(app.database, force=force)
        click.echo(f"rolled back {revision}" if revision else "There was nothing to roll back.", err=True)

    run_in_application(work)
