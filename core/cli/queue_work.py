"""`--queue-work`: a worker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from core.cli.numbers import at_least_one, megabytes, seconds, some_seconds
from core.cli.running import connection_option, run_in_application, start_timeout_option
from core.errors import SettingError
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder

if TYPE_CHECKING:
    from core.settings import Settings


class QueueOrderType(click.ParamType[QueueOrder]):
    name = "queues"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> QueueOrder:
        try:
            return value if isinstance(value, QueueOrder) else QueueOrder.parse(value)
        except SettingError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--queue",
    "queues",
    type=QueueOrderType(),
    help="`a,b`: b where a is empty; `a=3,b=1`: by weight. Default: QUEUE_DEFAULT alone.",
)
@connection_option
@click.option("--concurrency", type=at_least_one, help="Jobs side by side. Default: QUEUE_CONCURRENCY.")
@click.option("--sleep", type=some_seconds, help="Seconds between polls while idle. Default: QUEUE_SLEEP.")
@click.option("--max-jobs", type=at_least_one, help="Stop after so many jobs.")
@click.option("--max-time", type=some_seconds, help="Stop after so many seconds.")
@click.option("--max-tries", type=at_least_one, help="Tries of each job; wins over the job's own.")
@click.option("--timeout", type=seconds, help="Seconds for each try; wins over the job's own. 0: none.")
@click.option("--memory", type=megabytes, help="Stop beyond so many MB.")
@click.option("--stop-when-empty", is_flag=True, help="Stop when no job is available or executing.")
@click.option("--once", is_flag=True, help="Run one job, if there is one, and stop.")
@start_timeout_option
def queue_work(
    connection: str | None,
    max_tries: int | None,
    timeout: float | None,
    start_timeout: float | None,
    **given: Any,
) -> None:
    """Run jobs until stopped. SIGTERM lets running ones end; a second one hands them back at once."""
    from core.roles.worker_role import run_worker
    from core.settings import load_settings

    settings = load_settings()
    options = _options(settings, given)
    run_in_application(
        lambda app: run_worker(
            app, options, connection=connection, max_tries=max_tries, timeout=timeout, start_timeout=start_timeout
        ),
        settings,
    )


def _options(settings: Settings, given: dict[str, Any]) -> WorkerOptions:
    """What was given on the command line, over what is configured."""
    queue = settings.queue
    defaults = WorkerOptions(
        queues=QueueOrder((queue.default,)),
        concurrency=queue.concurrency,
        lease=queue.lease,
        sleep=queue.sleep,
        grace=settings.app.grace,
    )
    if given.pop("once"):
        given |= {"max_jobs": 1, "stop_when_empty": True}
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})
