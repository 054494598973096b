from __future__ import annotations

import asyncio
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from core.dev.activity import Activity
from core.dev.live_view import LiveView
from core.dev.plain_view import PlainView
from core.dev.surroundings import Surroundings
from core.errors import PermanentError
from core.observability.events import (
    BrokerLost,
    Event,
    Events,
    JobCompleted,
    JobFailed,
    JobsDispatched,
    MessageDropped,
    MessageFailed,
    MessageReceived,
)

THERE = Surroundings("127.0.0.1", 1884, "sqlite:///storage/x.sqlite3", "database", Path("storage/dev.log"))
HAPPENED: list[Event] = [
    MessageReceived("fleet/mill/saw-1/telemetry", 66),
    MessageDropped("fleet/mill/saw-1/telemetry", "beyond a limit"),
    JobsDispatched("[red]", 1),
    JobCompleted("id-1", "app.jobs.send_email.SendEmail", "[red]", 1, 0.001),
    JobFailed("id-2", "app.jobs.send_email.SendEmail", "emails", 1, 0.001, PermanentError("no such address")),
    MessageFailed("fleet/mill/saw-1/firmware", 3, ValueError("two")),
    BrokerLost("127.0.0.1:1884", "routemq", "gone away", 1.0),
]


def drawn(events: Events, height: int) -> tuple[LiveView, Console]:
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=120, height=height)
    return LiveView(Activity(events), THERE, console), console


def text_of(view: LiveView, console: Console) -> str:
    with console.capture() as captured:
        console.print(view.picture())
    return captured.get()


def test_the_picture_shows_messages_jobs_troubles_and_hints() -> None:
    events = Events()
    view, console = drawn(events, 50)
    for event in HAPPENED:
        events.emit(event)
    text = text_of(view, console)
    for shown in (
        "1 in all",
        "1 dropped by a limit   1 failed",
        "fleet/mill/saw-1/telemetry  66 B",
        "completed SendEmail  in 1 ms",
        "PermanentError: no such address",
        "ValueError: two",
        "broker: gone away",
        "127.0.0.1:1884",
        "[red]",  # the name of a queue, not a colour
        "--queue-failed",
        "mosquitto_pub -V 5 -p 1884",
        "storage/dev.log",
    ):
        assert shown in text


def test_the_picture_tells_a_file_from_here_and_hints_tell_it_from_anywhere() -> None:
    there = replace(THERE, database=f"sqlite:///{Path.cwd()}/storage/x.sqlite3", ignored=("DATABASE_URL",))
    assert there.database_here == "sqlite:///storage/x.sqlite3"
    assert there.command("--queue-stats").startswith(f"DATABASE_URL=sqlite:///{Path.cwd()}/storage/x.sqlite3 ")
    assert replace(THERE, database="mysql://db/x").database_here == "mysql://db/x"


def test_the_picture_fits_a_small_terminal_and_does_not_jump() -> None:
    events = Events()
    view, console = drawn(events, 24)
    for queue in ("critical", "default", "emails"):
        events.emit(JobsDispatched(queue, 1))
    before = text_of(view, console).count("\n")
    for number in range(50):
        events.emit(MessageReceived(f"a/{number}", 1))
    assert text_of(view, console).count("\n") == before <= 24


async def test_the_live_view_draws_until_it_is_cancelled() -> None:
    view, console = drawn(Events(), 40)
    showing = asyncio.create_task(view.run())
    await asyncio.sleep(0)  # its turn: it draws, then waits
    file = console.file
    assert isinstance(file, StringIO)
    assert "RouteMQ" in file.getvalue()
    showing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await showing
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is back


async def test_the_plain_view_writes_where_things_are_then_lines() -> None:
    events, lines = Events(), asyncio.Queue[str]()
    view = PlainView(Activity(events), events, THERE, lines.put_nowait)
    showing = asyncio.create_task(view.run())
    assert await lines.get() == (
        "MQTT broker at 127.0.0.1:1884, database sqlite:///storage/x.sqlite3, log in storage/dev.log"
    )
    hints = [await lines.get() for _ in THERE.hints()]
    assert all(hint.startswith("try: ") for hint in hints)
    for event in HAPPENED:
        events.emit(event)
    assert "id-2 on emails: PermanentError('no such address')" in await lines.get()
    assert await lines.get() == "failed: message on fleet/mill/saw-1/firmware: ValueError('two')"
    line = await lines.get()
    assert line.startswith("1 messages, ")
    assert "| [red]: 1 completed, 0 retried, 0 failed | emails: 0 completed, 0 retried, 1 failed" in line
    assert line.endswith("| trouble with broker: gone away")
    showing.cancel()


def test_commands_are_shown_as_they_are_typed_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv/bin/python"))
    monkeypatch.setattr("sys.argv", ["main.py", "--dev"])
    assert THERE.command("--queue-stats") == ".venv/bin/python main.py --queue-stats"
