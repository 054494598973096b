"""Tells people that something is wrong."""

from __future__ import annotations

from app.jobs.send_email import SendEmail
from core.job import Job
from core.queue.queue_manager import dispatch


class RaiseAlert(Job):
    queue = "critical"  # of its own, so that no flood of readings stands in front of it
    timeout = 10  # seconds
    site: str
    sensor: str
    text: str

    async def handle(self) -> None:
        # The mail is a job by itself: its retries are no reason to repeat what else an alert may come to do here.
        await dispatch(
            SendEmail(
                to=f"operations@{self.site}.example",
                subject=f"{self.site}/{self.sensor}: {self.text}",
                body=f"Sensor {self.sensor} of {self.site} reports: {self.text}.",
            )
        )
