"""Where mail goes: to the server at MAIL_HOST, or, without one, to a file that pretends to be a server."""

from __future__ import annotations

import smtplib
import threading
from email.message import EmailMessage

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from core.settings import Section, beside_main

OUTBOX = "storage/outbox.txt"


class MailSettings(Section):
    """The app's own settings: a section such as those in config/, read when it is needed."""

    model_config = SettingsConfigDict(env_prefix="MAIL_")

    host: str | None = Field(None, description="the mail server; unset: write to storage/outbox.txt instead")
    port: int = Field(25, ge=1, le=65535, description="its port")
    sender: str = Field("routemq@localhost", description="whom the mails come from")


class MailboxBusy(Exception):
    """The server asks to try again later (SMTP reply 450)."""


def send(to: str, subject: str, body: str, *, message_id: str) -> None:
    """Hand a mail over. Blocks. Raises OSError or smtplib.SMTPException where the server does not take it."""
    settings = MailSettings(_env_file=beside_main(".env"))  # type: ignore[call-arg]
    message = _message(settings.sender, to, subject, body, message_id)
    if settings.host is None:
        _outbox.send(message)
        return
    with smtplib.SMTP(settings.host, settings.port, timeout=10) as server:
        server.send_message(message)


def _message(sender: str, to: str, subject: str, body: str, message_id: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Message-ID"] = f"<{message_id}@routemq.example>"
    message.set_content(body, cte="8bit")  # for people to read, in the outbox as well
    return message


class Outbox:
    """Nothing is sent: mails are appended to a file.

    Like the many real servers that greylist, it turns away the first mail for an address that it has not seen
    since the program started. So the example has a job whose second try succeeds.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._lock = threading.Lock()  # jobs that are not async run in several threads

    def send(self, message: EmailMessage) -> None:
        with self._lock:
            self._greylist(message["To"])
            outbox = beside_main(OUTBOX)
            outbox.parent.mkdir(exist_ok=True)
            with outbox.open("a", encoding="utf-8") as file:
                file.write(f"{message.as_bytes().decode()}\n---\n")

    def _greylist(self, address: str) -> None:
        if address not in self._known:
            self._known.add(address)
            raise MailboxBusy(f"450 {address} is greylisted, please try again later")


_outbox = Outbox()
