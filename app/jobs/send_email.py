"""Sends one e-mail."""

from __future__ import annotations

import logging

from app import mail
from core.job import Job

_log = logging.getLogger(__name__)


class SendEmail(Job):
    queue = "emails"
    max_tries = 3
    timeout = 30  # seconds
    retry_after = 5  # seconds: in real life rather a minute or more, but here somebody is watching
    to: str
    subject: str = ""
    body: str = ""

    def handle(self) -> None:
        """Not async, as smtplib blocks: such a job runs in a thread, and holds up nobody."""
        # The same id each time it is tried: a mail server, or the reader, can tell a repetition.
        mail.send(self.to, self.subject, self.body, message_id=self.job_id)

    async def failed(self, exception: Exception) -> None:
        _log.error("the mail %r to %s was given up: %s", self.subject, self.to, exception)
