from __future__ import annotations

from pathlib import Path

from core.job import Job


class WriteNote(Job):
    queue = "critical"
    name: str

    async def handle(self) -> None:
        Path(f"{self.name}.note").touch()
