"""What commands share: settings, logging, an open Application, and an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from core.cli.ending import end_other_tasks
from core.cli.numbers import seconds

if TYPE_CHECKING:
    from core.application import Application
    from core.settings import Settings

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
connection_option = click.option(
    "--connection", type=click.Choice(["redis", "database"]), help="Default: QUEUE_CONNECTION."
)
start_timeout_option = click.option(
    "--start-timeout",
    type=seconds,
    help="Seconds to wait at start for the servers. Default: APP_START_TIMEOUT.",
)


def run_in_application(work: Callable[[Application], Awaitable[T]], settings: Settings | None = None) -> T:
    """Run `work` with an open Application, its events logged."""
    # Imported here, so that --help and bad usage answer at once.
    from core.application import Application
    from core.observability.logging import configure_logging, log_events
    from core.settings import load_settings

    settings = settings or load_settings()
    configure_logging(settings.logging.level, settings.logging.format)

    async def run() -> T:
        app = Application(settings)
        log_events(app.events)
        async with app:
            return await work(app)

    return run_loop(run())


def run_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed; what the app's code has left running is cut off after a while."""
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        return runner.run(coroutine)
    finally:
        runner.run(end_other_tasks())
        runner.get_loop().close()  # and not the runner, which would wait for tasks and threads for ever


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
