"""`--queue-work`: a worker, or with `--processes` several."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from core.cli.numbers import at_least_one, megabytes, seconds, some_seconds
from core.cli.queue_name import queue_name
from core.cli.running import connection_option, run_in_application, start_timeout_option
from core.errors import SettingError
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder

if TYPE_CHECKING:
    from core.application import Application
    from core.settings import Settings


class QueueOrderType(click.ParamType[QueueOrder]):
    name = "queues"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> QueueOrder:
        try:
            order = value if isinstance(value, QueueOrder) else QueueOrder.parse(value)
        except SettingError as error:
            self.fail(str(error), param, ctx)
        for name in order.names:
            queue_name.convert(name, param, ctx)
        return order


@click.command()
@click.option(
    "--queue",
    "queues",
    type=QueueOrderType(),
    help="`a,b`: b where a is empty; `a=3,b=1`: by weight. Default: QUEUE_DEFAULT alone.",
)
@connection_option
@click.option("--concurrency", type=at_least_one, help="Jobs side by side. Default: QUEUE_CONCURRENCY.")
@click.option("--processes", type=at_least_one, help="Workers, each a process, kept running. Default: this one alone.")
@click.option("--sleep", type=some_seconds, help="Seconds between polls while idle. Default: QUEUE_SLEEP.")
@click.option("--max-jobs", type=at_least_one, help="Stop after so many jobs; with --processes, be replaced.")
@click.option("--max-time", type=some_seconds, help="Stop after so many seconds.")
@click.option("--max-tries", type=at_least_one, help="Tries of each job; wins over the job's own.")
@click.option("--timeout", type=seconds, help="Seconds for each try; wins over the job's own. 0: none.")
@click.option("--memory", type=megabytes, help="Stop beyond so many MB; with --processes, be replaced.")
@click.option("--stop-when-empty", is_flag=True, help="Stop when no job is available or executing.")
@click.option("--once", is_flag=True, help="Run one job, if there is one, and stop.")
@start_timeout_option
@click.option("--supervised", is_flag=True, hidden=True)  # by the supervisor of --processes, for its workers
def queue_work(processes: int | None, supervised: bool, **given: Any) -> None:
    """Run jobs until stopped. SIGTERM lets running ones end; a second one hands them back at once."""
    if processes is None:
        _work(given, is_child=supervised)
    else:
        _supervise(processes, given)


def _work(given: dict[str, Any], *, is_child: bool) -> None:
    from core.roles.supervisor import REPLACE_ME
    from core.roles.worker_role import run_worker
    from core.settings import load_settings

    settings = load_settings()
    rest = {name: given.pop(name) for name in ("connection", "max_tries", "timeout", "start_timeout")}
    options = _options(settings, given)
    is_used_up = run_in_application(lambda app: run_worker(app, options, is_child=is_child, **rest), settings)
    if is_child and is_used_up:
        sys.exit(REPLACE_ME)


def _supervise(processes: int, given: dict[str, Any]) -> None:
    from core.roles.worker_processes import WorkerProcesses

    max_time = given.pop("max_time")
    may_end = given["stop_when_empty"] or given["once"]

    async def run(app: Application) -> bool:
        workers = WorkerProcesses(app, processes, _words(given), max_time=max_time, may_end=may_end)
        return await workers.run(start_timeout=given["start_timeout"], connection=given["connection"])

    if not run_in_application(run):
        sys.exit(1)


def _words(given: dict[str, Any]) -> list[str]:
    """The options as they were written."""
    names = {name: "--queue" if name == "queues" else f"--{name.replace('_', '-')}" for name in given}
    flags = [names[name] for name, value in given.items() if value is True]
    return flags + [
        f"{names[name]}={value}" for name, value in given.items() if value is not None and not isinstance(value, bool)
    ]


def _options(settings: Settings, given: dict[str, Any]) -> WorkerOptions:
    """What was given on the command line, over what is configured."""
    queue = settings.queue
    defaults = WorkerOptions(
        queues=QueueOrder((queue.default,)),
        concurrency=queue.concurrency,
        lease=queue.lease,
        sleep=queue.sleep,
        grace=settings.app.grace,
        blocked_loop_warning=queue.blocked_loop_warning,
    )
    if given.pop("once"):
        given |= {"max_jobs": 1, "stop_when_empty": True}
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})
