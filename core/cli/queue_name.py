"""The name of a queue on the command line."""

from __future__ import annotations

from typing import Any

import click

from core.queue.queue_name import QUEUE_NAME_RULE, is_queue_name


class QueueName(click.ParamType[str]):
    name = "queue"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_queue_name(value):
            self.fail(f"{value!r} is no name for a queue: use {QUEUE_NAME_RULE}.", param, ctx)
        return str(value)


queue_name = QueueName()
