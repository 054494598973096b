from __future__ import annotations

from tally import ran

from core.job import Job


class Noop(Job):
    number: int

    async def handle(self) -> None:
        ran(self.number)
