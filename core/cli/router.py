"""`python main.py`: the router."""

from __future__ import annotations

import click

from core.cli.running import run_in_application, start_timeout_option


@click.command()
@start_timeout_option
def router(start_timeout: float | None = None) -> None:
    """Connect to the broker, subscribe, and hand each message to its controller."""
    _run(None, start_timeout)


@click.command(hidden=True)
@click.argument("number", type=click.IntRange(min=1))
@start_timeout_option
def shared_process(number: int, start_timeout: float | None) -> None:
    """One process of the shared routes; the router starts it."""
    _run(number, start_timeout)


def _run(number: int | None, start_timeout: float | None) -> None:
    from core.roles.router_role import RouterRole

    run_in_application(lambda app: RouterRole(app, number, start_timeout).run())
