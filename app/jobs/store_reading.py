"""Writes a reading into the table."""

from __future__ import annotations

from datetime import datetime

from app.models.reading import Reading
from core.job import Job


class StoreReading(Job):
    max_tries = 5
    retry_after = 2  # seconds: a database that is away is mostly back soon
    site: str
    sensor: str
    taken_at: datetime
    temperature: float

    async def handle(self) -> None:
        # A job runs at least once: again, if its worker dies between the commit and the report. Merging on the
        # key that the sensor itself gave the reading makes the second time change nothing.
        async with await Reading.get_session() as session:
            await session.merge(
                Reading(site=self.site, sensor=self.sensor, taken_at=self.taken_at, temperature=self.temperature)
            )
            await session.commit()
