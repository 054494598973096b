"""The command line: finds the command, loads it and nothing else, and turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 bad usage. Data goes to standard output, logs to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NoReturn

import click

from core.cli.ending import ending_in_time
from core.cli.running import start_timeout_option
from core.errors import RouteMQError

COMMANDS = {
    "router": "core.cli.router:router",
    "shared-process": "core.cli.router:shared_process",
    "dev": "core.cli.dev:dev",
    "queue-work": "core.cli.queue_work:queue_work",
    "migrate": "core.cli.migrate:migrate",
    "migrate-status": "core.cli.migrate:migrate_status",
    "migrate-rollback": "core.cli.migrate:migrate_rollback",
    "queue-stats": "core.cli.queue_stats:queue_stats",
    "queue-clear": "core.cli.queue_stats:queue_clear",
    "queue-failed": "core.cli.queue_failed:queue_failed",
    "queue-show": "core.cli.queue_failed:queue_show",
    "queue-retry": "core.cli.queue_failed:queue_retry",
    "queue-forget": "core.cli.queue_failed:queue_forget",
    "queue-flush": "core.cli.queue_failed:queue_flush",
    "queue-prune": "core.cli.queue_failed:queue_prune",
    "route-list": "core.cli.listings:route_list",
    "job-list": "core.cli.listings:job_list",
}
"""Where each command lives; a module is imported when its command is run, or for --help."""


class Commands(click.Group):
    """Commands by name, loaded one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command may be written as a flag as well: `--queue-work` is `queue-work`.",
)
@start_timeout_option
@click.pass_context
def cli(context: click.Context, start_timeout: float | None) -> None:
    """RouteMQ turns MQTT messages into finished work. Without a command: the router, which takes the options."""
    if context.invoked_subcommand is None:
        context.invoke(cli.get_command(context, "router"), start_timeout=start_timeout)  # type: ignore[arg-type]
    elif start_timeout is not None:
        raise click.UsageError("--start-timeout stands behind the command that it is for.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process with its exit code."""
    words = command_first(list(sys.argv[1:] if arguments is None else arguments))
    with ending_in_time():
        try:
            cli.main(words, prog_name="main.py", standalone_mode=True)
        except RouteMQError as error:
            _complain([error])
        except BaseExceptionGroup as group:  # out of tasks that ran side by side
            errors = list(_leaves(group))
            if not all(isinstance(each, RouteMQError) for each in errors):
                raise
            _complain(errors)


def _complain(errors: Sequence[BaseException]) -> NoReturn:
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    sys.exit(1)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def command_first(words: list[str]) -> list[str]:
    """Bring `--queue emails --queue-work` into the order `queue-work --queue emails`."""
    for index, word in enumerate(words):
        name, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in COMMANDS:
            return [name, *words[:index], *([value] if value else []), *words[index + 1 :]]
        if index == 0 and word in COMMANDS:
            break
    return words
