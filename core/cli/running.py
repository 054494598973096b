"""What commands share: settings, logging, and an open Application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from core.cli.numbers import seconds

if TYPE_CHECKING:
    from core.application import Application
    from core.settings import Settings

T = TypeVar("T")

_log = logging.getLogger("routemq.settings")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
connection_option = click.option(
    "--connection", type=click.Choice(["redis", "database"]), help="Default: QUEUE_CONNECTION."
)
start_timeout_option = click.option(
    "--start-timeout",
    type=seconds,
    help="Seconds to wait at start for the servers. Default: APP_START_TIMEOUT.",
)


def run_in_application(
    work: Callable[[Application], Awaitable[T]], settings: Settings | None = None, *, needs_tables: bool = True
) -> T:
    """Run `work` with an open Application, its events logged.

    What needs tables is not run where there is no file that could hold them: it would make an empty one.
    """
    # Imported here, so that --help and bad usage answer at once.
    from core.application import Application
    from core.cli.event_loop import run_loop
    from core.observability.logging import configure_logging, log_events
    from core.roles.unknown_settings import unknown_settings
    from core.settings import load_settings

    settings = settings or load_settings()
    configure_logging(settings.logging.level, settings.logging.format)
    for line in unknown_settings():
        _log.warning("%s", line)

    async def run() -> T:
        app = Application(settings)
        log_events(app.events)
        if needs_tables:
            app.database.require_file()
        async with app:
            return await work(app)

    return run_loop(run())
