"""Compares a device's firmware with what we support. Fails on purpose, to show what becomes of such jobs."""

from __future__ import annotations

from core.errors import PermanentError
from core.job import Job

OLDEST_SUPPORTED = (2, 0)


class CheckFirmware(Job):
    site: str
    sensor: str
    firmware: str

    async def handle(self) -> None:
        if _number(self.firmware) < OLDEST_SUPPORTED:
            # No other try would end better, so there is none: the job goes to failed_jobs at once.
            raise PermanentError(f"{self.site}/{self.sensor} runs firmware {self.firmware}; update it to 2.0 or later.")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
