"""Numbers on the command line: finite, and within what the parts behind it can take."""

from __future__ import annotations

import math
from typing import Any

import click

from core.clock import CENTURY

_MOST = 2**31 - 1


class Number(click.FloatRange):
    """A range that takes no `inf` and no `nan`, which compares with nothing and so is within any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            is_finite = math.isfinite(float(value))
        except ValueError:
            is_finite = True  # the range itself says what is wrong
        if not is_finite:
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return super().convert(value, param, ctx)


at_least_one = click.IntRange(min=1, max=_MOST)
seconds = Number(min=0, max=CENTURY)
some_seconds = Number(min=0, min_open=True, max=CENTURY)
hours = Number(min=0, max=CENTURY / 3600)
megabytes = Number(min=0, min_open=True, max=_MOST)
