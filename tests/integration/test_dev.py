"""`python main.py --dev` as a newcomer starts it: a real process, with its storage in a folder of the test's."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiomqtt
import psutil
import pytest

from core.dev.fleet import Fleet
from core.mqtt.embedded_broker import EmbeddedBroker
from core.mqtt.options import MqttOptions
from tests.project import clean_environment, make_project
from tests.servers.guardian import guardian

PROMPT = 45.0
"""Seconds within which anything a test waits for must come, on a machine busy with other tests."""

MINI_ROUTER = """
from core.router import Router
from mini.jobs.note import Note
from core.queue.queue_manager import dispatch

router = Router()

async def take(payload: str) -> None:
    await dispatch(Note(text=payload))

router.on("notes/+", take, shared=True, worker_count=2)
"""
MINI_JOB = """
from pathlib import Path
from core.job import Job

class Note(Job):
    queue = "notes"
    text: str

    async def handle(self) -> None:
        Path("notes.txt").open("a").write(self.text)
"""


ENDLESS_JOB = """
import time
from core.job import Job

class Endless(Job):
    def handle(self) -> None:
        time.sleep(3600)
"""
ENDLESS_SIMULATION = """
import asyncio
from core.queue.queue_manager import dispatch
from mini.jobs.endless import Endless

async def simulate(fleet):
    await dispatch(Endless())
    await asyncio.Event().wait()
"""


IGNORING = """
wait = simulate

async def simulate(fleet):
    while True:
        try:
            await wait(fleet)
        except asyncio.CancelledError:
            pass
"""


def write_package(folder: Path, **modules: str) -> None:
    """Modules of a package `mini`, by their dotted names."""
    for name, text in modules.items():
        file = folder / "mini" / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@contextmanager
def killed_with_us(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
    """It does not outlive the block, nor a test run that is killed in it."""
    guardian().watch(process.pid)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        guardian().forget(process.pid)


class DevProcess:
    """The program, its lines as they come, and what it started."""

    def __init__(self, folder: Path, *arguments: str, cwd: Path | None = None, **settings: str) -> None:
        self.folder = folder
        self.main = make_project(folder)
        self.environment = clean_environment() | settings
        self.errors = folder / "stderr.txt"
        with self.errors.open("w") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, self.main, "--dev", *arguments],
                cwd=cwd or folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def line(self, pattern: str) -> re.Match[str]:
        """The next line that matches."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"ended without a line that matches {pattern!r}: {self.errors.read_text()}")

    def ended(self) -> int:
        """The exit code, once it has ended; nothing that it started is left."""
        children = psutil.Process(self.popen.pid).children(recursive=True) if self.popen.poll() is None else []
        code = self.popen.wait(PROMPT)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []
        return code

    def command(self, *words: str) -> str:
        return subprocess.run(
            [sys.executable, self.main, *words],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout


StartDev = Callable[..., DevProcess]


@pytest.fixture
def start_dev(tmp_path: Path) -> Iterator[StartDev]:
    with ExitStack() as started:

        def start(*arguments: str, cwd: Path | None = None, **settings: str) -> DevProcess:
            process = DevProcess(tmp_path, *arguments, cwd=cwd, **settings)
            assert process.popen.stdout is not None
            started.enter_context(process.popen.stdout)
            started.enter_context(killed_with_us(process.popen))
            return process

        yield start


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_messages_come_in_jobs_finish_one_fails_and_a_signal_stops_it_all(
    start_dev: StartDev, stop: signal.Signals
) -> None:
    dev = start_dev()
    dev.line(r"^MQTT broker at 127\.0\.0\.1:\d+, database sqlite:////.*/storage/routemq\.sqlite3")
    dev.line(r"^failed: app\.jobs\.check_firmware\.CheckFirmware .* on default: PermanentError")
    dev.line(r"^[1-9]\d* messages, .* default: \d{2,} completed, 0 retried, 1 failed")
    (failed,) = json.loads(dev.command("--queue-failed", "--json"))
    assert failed["job"] == "app.jobs.check_firmware.CheckFirmware"
    assert "PermanentError: quarry/belt-5 runs firmware 1.4" in failed["exception"]
    dev.popen.send_signal(stop)
    assert dev.ended() == 0
    dev.line(r"^Stopped\. [1-9]\d* messages came in; of the jobs, [1-9]\d* completed, .* 1 failed\.$")
    assert dev.errors.read_text() == ""


def test_it_stops_by_itself_after_the_given_time(start_dev: StartDev, tmp_path: Path) -> None:
    dev = start_dev("--for", "0.5")
    dev.line(r"storage/routemq\.sqlite3")
    assert dev.ended() == 0


ELSEWHERE = {"QUEUE_CONNECTION": "redis", "REDIS_URL": "redis://127.0.0.1:1"}


@pytest.mark.parametrize("where", ["environment", "file"])
def test_configured_stores_are_left_alone_and_it_says_so(start_dev: StartDev, tmp_path: Path, where: str) -> None:
    elsewhere = tmp_path / "production.sqlite3"
    settings = {**ELSEWHERE, "DATABASE_URL": f"sqlite:///{elsewhere}"}
    if where == "file":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        settings = {}
    dev = start_dev("--for", "0.5", **settings)
    dev.line(r"database sqlite:////.*/storage/routemq\.sqlite3")
    dev.line(r"^DATABASE_URL, QUEUE_CONNECTION, REDIS_URL: left alone, .* --configured-stores")
    hint = f"DATABASE_URL=sqlite:///{tmp_path}/storage/routemq.sqlite3 QUEUE_CONNECTION=database"
    dev.line(rf"^try: {re.escape(hint)} .* --queue-failed")
    assert dev.ended() == 0
    assert not elsewhere.exists()


def test_settings_that_name_the_same_store_are_no_news(start_dev: StartDev) -> None:
    dev = start_dev(
        "--for", "0.5", DATABASE_URL="sqlite+aiosqlite:///storage/routemq.sqlite3", QUEUE_CONNECTION="database"
    )
    assert dev.line("^(?!MQTT)").string.startswith("try: ")
    assert dev.ended() == 0


def test_configured_stores_are_used_where_that_is_wanted(start_dev: StartDev, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere/own.sqlite3"
    dev = start_dev("--for", "0.5", "--configured-stores", DATABASE_URL=url)
    dev.line(r"own\.sqlite3")
    assert dev.ended() == 0
    assert (tmp_path / "elsewhere" / "own.sqlite3").exists()


def test_the_environment_does_not_lead_it_to_another_broker(start_dev: StartDev) -> None:
    dev = start_dev(
        "--for",
        "0.5",
        MQTT_BROKER="broker.invalid",
        MQTT_USERNAME="somebody",
        MQTT_PASSWORD="secret",
        MQTT_PROTOCOL="3.1.1",
    )
    dev.line(r"^MQTT broker at 127\.0\.0\.1:")
    assert dev.ended() == 0


def test_wherever_it_is_started_its_files_are_beside_main(start_dev: StartDev, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    dev = start_dev("--for", "0.5", cwd=elsewhere)
    dev.line(rf"^MQTT broker at .* log in {re.escape(str(tmp_path))}/storage/dev\.log")
    assert dev.ended() == 0
    assert (tmp_path / "storage" / "dev.log").exists()
    assert list(elsewhere.iterdir()) == []


def test_a_broker_that_dies_comes_back_and_messages_with_it(start_dev: StartDev) -> None:
    dev = start_dev()
    dev.line(r"^[1-9]\d* messages")
    (broker,) = psutil.Process(dev.popen.pid).children()
    broker.kill()
    before = int(dev.line(r"^(\d+) messages").group(1))
    while int(dev.line(r"^(\d+) messages").group(1)) < before + 20:
        pass
    dev.popen.send_signal(signal.SIGINT)
    assert dev.ended() == 0
    assert "the embedded MQTT broker has died" in (dev.folder / "storage" / "dev.log").read_text()


def test_while_it_waits_for_a_database_it_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    settings = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    with (
        subprocess.Popen(
            [sys.executable, make_project(tmp_path), "--dev", "--configured-stores"],
            cwd=tmp_path,
            env=clean_environment() | settings,
            stderr=subprocess.PIPE,
            text=True,
        ) as dev,
        killed_with_us(dev),
    ):
        assert dev.stderr is not None
        assert any("waiting: The database postgresql://127.0.0.1:1/nowhere" in line for line in dev.stderr)
        dev.send_signal(signal.SIGINT)
        assert "Traceback" not in dev.stderr.read()
        assert dev.wait(PROMPT) == 0


def test_a_wrong_setting_is_named_and_leaves_nothing_running(start_dev: StartDev) -> None:
    dev = start_dev(QUEUE_CONNECTION="carrier-pigeon")
    assert dev.ended() == 1
    assert "QUEUE_CONNECTION='carrier-pigeon'" in dev.errors.read_text()


def test_it_works_with_queues_in_memory(start_dev: StartDev) -> None:
    dev = start_dev("--configured-stores", QUEUE_CONNECTION="memory")
    dev.line(r"default: [1-9]\d* completed")
    dev.popen.send_signal(signal.SIGINT)
    assert dev.ended() == 0


async def test_any_app_runs_shared_routes_and_all_queues_included(start_dev: StartDev, tmp_path: Path) -> None:
    write_package(tmp_path, routers__notes=MINI_ROUTER, jobs__note=MINI_JOB)
    dev = start_dev(APP_PACKAGE="mini", PYTHONPATH=str(tmp_path))
    port = int((await asyncio.to_thread(dev.line, r"^MQTT broker at 127\.0\.0\.1:(\d+)")).group(1))
    await asyncio.to_thread(dev.line, r"^0 messages")
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.publish("notes/1", "once", qos=1)
    await asyncio.to_thread(dev.line, r"notes: 1 completed")
    dev.popen.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(dev.ended) == 0
    assert (tmp_path / "notes.txt").read_text() == "once"


@pytest.mark.parametrize("simulation", ["heeds", "ignores"])
def test_neither_a_job_in_a_thread_nor_a_simulation_that_never_ends_keeps_it(
    start_dev: StartDev, tmp_path: Path, simulation: str
) -> None:
    text = ENDLESS_SIMULATION if simulation == "heeds" else ENDLESS_SIMULATION + IGNORING
    write_package(tmp_path, simulation=text, jobs__endless=ENDLESS_JOB)
    dev = start_dev(APP_PACKAGE="mini", PYTHONPATH=str(tmp_path), LOG_LEVEL="DEBUG")
    log = tmp_path / "storage" / "dev.log"
    dev.line(r"^0 messages")
    while "started mini.jobs.endless.Endless" not in log.read_text():
        dev.line(r"^0 messages")
    dev.popen.send_signal(signal.SIGINT)
    assert dev.ended() == 0


def test_in_a_terminal_it_shows_a_live_view_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    dev = subprocess.Popen(
        [sys.executable, make_project(tmp_path), "--dev"],
        cwd=tmp_path,
        env={**clean_environment(), "TERM": "xterm", "COLUMNS": "130", "LINES": "45"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    with killed_with_us(dev):
        seen = read_until(ours, b"StoreReading")
        os.killpg(dev.pid, signal.SIGINT)  # as the terminal does at Ctrl-C: to all, the broker too
        seen += read_until(ours, None)
        os.close(ours)
        assert dev.wait(PROMPT) == 0
    assert b"Traceback" not in seen
    assert b"Ctrl-C stops everything" in seen
    assert b"Stopped. " in seen


def read_until(terminal: int, wanted: bytes | None) -> bytes:
    """What the terminal shows, until it shows this, or (None) until the program ends."""
    seen = b""
    while wanted is None or wanted not in seen:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # so Linux says that nobody writes there any more
            return seen
    return seen


@pytest.mark.parametrize("vanishes", [True, False])
async def test_a_device_that_vanishes_leaves_its_last_will(vanishes: bool) -> None:
    with EmbeddedBroker() as broker:
        options = MqttOptions(host=broker.host, port=broker.port)
        async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as watcher:
            await watcher.subscribe("pump/#", qos=1)
            async with Fleet(options).device("pump", will=("pump/status", "offline")) as device:
                if vanishes:
                    device.vanish()
            if not vanishes:
                await watcher.publish("pump/end", qos=1)
            first = await anext(watcher.messages)
    assert str(first.topic) == ("pump/status" if vanishes else "pump/end")
