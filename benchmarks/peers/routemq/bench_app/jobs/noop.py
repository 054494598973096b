from __future__ import annotations

from routemq import Job
from tally import ran


@Job.register
class Noop(Job):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    async def handle(self) -> None:
        ran(self.number)
