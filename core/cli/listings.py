"""`--route-list` and `--job-list`: what the app holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from core.cli.output import print_table
from core.cli.running import json_option, run_in_application

if TYPE_CHECKING:
    from core.application import Application


@click.command()
@json_option
def route_list(as_json: bool) -> None:
    """List the routes."""

    async def work(app: Application) -> None:
        rows = [
            {
                "pattern": route.pattern.text,
                "topic_filter": route.pattern.topic_filter,
                "qos": route.qos,
                "shared": route.shared,
                "worker_count": route.worker_count,
                "controller": route.handler_name,
            }
            for route in app.routes.routes
        ]
        print_table(rows, ("pattern", "topic_filter", "qos", "shared", "worker_count", "controller"), as_json)

    run_in_application(work, needs_tables=False)


@click.command()
@json_option
def job_list(as_json: bool) -> None:
    """List the job classes, with the options that hold for them: their own, or the configured ones."""

    async def work(app: Application) -> None:
        from core.job import job_name

        rows = [
            {
                "job": job_name(cls),
                "queue": getattr(cls, "queue", app.settings.queue.default),
                "max_tries": getattr(cls, "max_tries", app.settings.queue.max_tries),
                "retry_after": getattr(cls, "retry_after", app.settings.queue.retry_after),
                "timeout": getattr(cls, "timeout", app.settings.queue.timeout),
            }
            for cls in app.jobs
        ]
        print_table(rows, ("job", "queue", "max_tries", "retry_after", "timeout"), as_json)

    run_in_application(work, needs_tables=False)
