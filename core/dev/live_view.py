"""The view of `--dev` in a terminal: what comes in, what becomes of it, and what to try next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from core.dev.activity import SHOWN, Activity
from core.dev.rate import Rate
from core.dev.surroundings import Surroundings

_SECONDS_PER_PICTURE = 0.25
_OTHER_LINES = 19
"""What the picture needs besides its queues and its lists of last messages and jobs."""
_FEWEST = 2
_COLOURS = {"completed": "green", "retried": "yellow", "failed": "red"}


class LiveView:
    def __init__(self, activity: Activity, surroundings: Surroundings, console: Console) -> None:
        self._activity = activity
        self._surroundings = surroundings
        self._console = console
        self._rate = Rate(lambda: activity.messages)

    async def run(self) -> None:
        """Draw until cancelled; the last picture stays."""
        # Drawn by us rather than by a thread of rich's: the numbers change on this loop.
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                live.update(self.picture(), refresh=True)
                await asyncio.sleep(_SECONDS_PER_PICTURE)

    def picture(self) -> RenderableType:
        """All of it, at this moment. Its height stays the same, lest it jump."""
        return Group(
            self._head(),
            self._queues(),
            _side_by_side(self._last_messages(), self._last_jobs()),
            self._hints(),
        )

    def _head(self) -> RenderableType:
        activity, there = self._activity, self._surroundings
        numbers = f"{self._rate.now():.1f} messages/s   {activity.messages} in all"
        lost = f"   {activity.messages_dropped} dropped by a limit" if activity.messages_dropped else ""
        refused = f"   {activity.messages_failed} failed" if activity.messages_failed else ""
        troubles = "".join(f"\n{what}: {reason}" for what, reason in activity.troubles.items())
        notes = "".join(f"\n{note}" for note in there.notes())
        text = Text.assemble(
            (numbers + lost, "bold"),
            (refused, "red"),
            f"\nMQTT broker {there.broker}   {there.connection} queue in {there.database_here}   log in ",
            there.log_file_here,
            (notes, "yellow"),
            (troubles, "red"),
        )
        return Panel(text, title="RouteMQ", subtitle="Ctrl-C stops everything", box=box.ROUNDED)

    def _queues(self) -> RenderableType:
        table = Table("queue", box=box.SIMPLE_HEAD, expand=True)
        for name in ("dispatched", "completed", "retried", "failed"):
            table.add_column(name, justify="right", style=_COLOURS.get(name))
        for name, queue in sorted(self._activity.queues.items()):
            counts = (queue.dispatched, queue.completed, queue.retried, queue.failed)
            table.add_row(escape(name), *map(str, counts))
        return table

    def _last_messages(self) -> RenderableType:
        lines = [Text(f"{topic}  {size} B") for topic, size in self._activity.last_messages]
        return _list("last messages", lines, self._room())

    def _last_jobs(self) -> RenderableType:
        lines = [
            Text.assemble((f"{each.outcome} ", _COLOURS[each.outcome]), f"{each.job}  ", (each.detail, "dim"))
            for each in self._activity.last_jobs
        ]
        return _list("last jobs", lines, self._room())

    def _room(self) -> int:
        """Lines of a list, such that the whole picture fits the terminal; below 24 lines, its end is cut off."""
        others = _OTHER_LINES + len(self._activity.queues) + len(self._surroundings.notes())
        return max(_FEWEST, min(SHOWN, self._console.height - others))

    def _hints(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for command, use in self._surroundings.hints():
            table.add_row(Text(command, "cyan", no_wrap=True), Text(use, "dim", no_wrap=True))
        return Panel(table, title="in another terminal", box=box.ROUNDED)


def _list(title: str, lines: Sequence[Text], room: int) -> RenderableType:
    rows = [*lines[-room:]]
    rows += [Text("")] * (room - len(rows))
    for row in rows:
        row.no_wrap, row.overflow = True, "ellipsis"
    return Panel(Group(*rows), title=title, box=box.ROUNDED)


def _side_by_side(left: RenderableType, right: RenderableType) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(left, right)
    return grid
