"""`--route-list` and `--job-list`: what the app holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from core.cli.output import print_table
from core.cli.running import json_option, run_in_application

if TYPE_CHECKING:
    from core.application import Application
    from core.job import Job
    from core.routing.route import Route


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
                **_keys_of(route),
            }
            for route in app.routes.routes
        ]
        print_table(rows, _ROUTE_COLUMNS, as_json)

    run_in_application(work, needs_tables=False)


_ROUTE_COLUMNS = (
    "pattern",
    "topic_filter",
    "qos",
    "shared",
    "worker_count",
    "deduplicate_by",
    "deduplicate_for",
    "ordered_by",
    "controller",
)


def _keys_of(route: Route) -> dict[str, str | float | None]:
    """The parts of a message by which the route knows it again, for how many seconds, and by which it orders."""
    keys = route.keys
    return {
        "deduplicate_by": keys.deduplicate_by.text if keys and keys.deduplicate_by else None,
        "deduplicate_for": keys.deduplicate_for if keys and keys.deduplicate_by else None,
        "ordered_by": keys.ordered_by.text if keys and keys.ordered_by else None,
    }


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
                "soft_timeout": getattr(cls, "soft_timeout", None),
                "execution": cls.execution,
                "version": cls.version,
                "ordering_key": _ordering_key_of(cls),
            }
            for cls in app.jobs
        ]
        print_table(rows, _JOB_COLUMNS, as_json)

    run_in_application(work, needs_tables=False)


_JOB_COLUMNS = (
    "job",
    "queue",
    "max_tries",
    "retry_after",
    "timeout",
    "soft_timeout",
    "execution",
    "version",
    "ordering_key",
)


def _ordering_key_of(cls: type[Job]) -> str | None:
    """The name of an attribute, or a call of the method."""
    return f"{cls.ordering_key.__name__}()" if callable(cls.ordering_key) else cls.ordering_key
