from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app import mail
from app.jobs.send_email import SendEmail


class MailServer:
    """Takes one mail, as SMTP (RFC 5321) has it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        in_mail = False
        async for data in reader:
            line = data.decode().rstrip()
            self.lines.append(line)
            if in_mail and line != ".":
                continue
            in_mail = line.upper() == "DATA"
            writer.write(_ANSWERS.get(line.upper(), b"250 fine\r\n"))
        writer.close()


_ANSWERS = {"DATA": b"354 go on\r\n", "QUIT": b"221 bye\r\n"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.settings.ROOT", tmp_path)
    monkeypatch.delenv("MAIL_HOST", raising=False)
    monkeypatch.setattr(mail, "_outbox", mail.Outbox())


def test_without_a_server_the_second_try_of_an_address_goes_to_the_file(tmp_path: Path) -> None:
    with pytest.raises(mail.MailboxBusy, match=r"450 a@example\.com is greylisted"):
        mail.send("a@example.com", "Hello", "Text", message_id="id-1")
    mail.send("a@example.com", "Hello", "Text", message_id="id-1")
    text = (tmp_path / mail.OUTBOX).read_text()
    assert "To: a@example.com\nSubject: Hello\nMessage-ID: <id-1@routemq.example>\n" in text


async def test_with_mail_host_it_goes_to_that_server(tmp_path: Path) -> None:
    mail_server = MailServer()
    async with await asyncio.start_server(mail_server.talk, "127.0.0.1", 0) as server:
        (tmp_path / ".env").write_text(f"MAIL_HOST=127.0.0.1\nMAIL_PORT={server.sockets[0].getsockname()[1]}\n")
        await asyncio.to_thread(mail.send, "a@example.com", "Hello", "Text", message_id="id-1")
    said = [line.lower() for line in mail_server.lines]  # verbs in whatever case: smtplib's changed with Python 3.13
    assert "rcpt to:<a@example.com>" in said
    assert "subject: hello" in said


async def test_a_mail_given_up_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await SendEmail(to="a@example.com", subject="Hello").failed(OSError("no route"))
    assert "the mail 'Hello' to a@example.com was given up: no route" in caplog.text
