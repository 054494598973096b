"""What is printed in README.md and docs/ works as printed: every block of Python runs, every command exists.

A block that begins with a file's name is that file of an app; what is left is executed inside an Application, each
block in the same module as those above it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from core.cli.main import COMMANDS, cli
from core.cli.queue_work import queue_work
from tests.project import clean_environment, make_project

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# (\S+\.py)\n")


@dataclass
class Documented:
    """An app made of a document's blocks, in a folder of its own."""

    folder: Path
    files: list[str]
    blocks: list[str]

    @classmethod
    def of(cls, document: Path, folder: Path) -> Documented:
        made = cls(folder, [], [])
        made._take_what_ships_with_every_app()
        make_project(folder)  # the checkout may have a .env
        for block in BLOCK.findall(document.read_text()):
            made._take(block)
        return made

    def _take_what_ships_with_every_app(self) -> None:
        for name in ("__init__.py", "middleware", "models/queue_failed_job.py"):
            source, target = ROOT / "app" / name, self.folder / "app" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

    def _take(self, block: str) -> None:
        name = FILE_NAME.match(block)
        if name is None:
            self.blocks.append(block)
            return
        self.files.append(name.group(1))
        target = self.folder / name.group(1)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block)

    def python(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            **clean_environment(),
            "DATABASE_URL": f"sqlite:///{self.folder}/storage/queue.sqlite3",
            "PYTHONPATH": str(self.folder),
            "QUEUE_CONNECTION": "database",
        }
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran

    def migrate(self) -> None:
        self.python("-c", "from core.cli.main import main; main(['--migrate'])")

    def run(self, *messages: dict[str, str]) -> dict[str, Any]:
        """Hand it messages, execute the blocks, let a worker run; see documented_app.py."""
        (self.folder / "messages.json").write_text(json.dumps(messages))
        (self.folder / "blocks.json").write_text(json.dumps(self.blocks))
        ran = self.python(Path(__file__).with_name("documented_app.py"), "messages.json", "blocks.json")
        report: dict[str, Any] = json.loads(ran.stderr.splitlines()[-1])
        return report


def message(topic: str, payload: Any = "", **more: str) -> dict[str, str]:
    return {"topic": topic, "payload": payload if isinstance(payload, str) else json.dumps(payload), **more}


def test_the_readmes_app_routes_messages_and_runs_jobs(tmp_path: Path) -> None:
    app = Documented.of(ROOT / "README.md", tmp_path)
    assert app.blocks == []
    app.migrate()
    door = "houses/elm-street/doors/13"
    report = app.run(
        message(f"{door}/opened", {"user_id": 7}),
        message(f"{door}/opened", {"user_id": 7, "by_force": True}),
        message(f"{door}/rang", response_topic="inbox/bell"),
        message(f"{door}/camera/2026/01/01.jpg", "not JSON"),
        message(f"{door}/opened", "not JSON"),
        message("houses/elm-street/doors/front/opened", {"user_id": 7}),
    )
    assert report["completed"].count("app.jobs.send_welcome.SendWelcome") == 1
    assert report["completed"].count("app.jobs.send_notice.SendNotice") == 2
    assert report["troubles"] == []
    assert report["published"] == [
        ["bells/hall", f'{{"because_of":"{door}/rang"}}'],
        ["inbox/bell", "somebody is coming"],
    ]
    assert sorted(reason.strip().rpartition("\n")[2].partition(":")[0] for reason in report["failed_messages"]) == [
        "core.errors.NoRouteError",
        "core.errors.PayloadError",
    ]


def test_the_readmes_app_replaces_no_file_that_ships(tmp_path: Path) -> None:
    """Whoever types it in keeps the example whole; and these tests, which then find its files in the checkout."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("only Git knows which files ship")
    assert not set(Documented.of(ROOT / "README.md", tmp_path).files) & set(listed.stdout.splitlines())


def test_programs_of_the_readme_are_named_where_they_are() -> None:
    named = re.findall(r"^\$ (\S+)", README, re.MULTILINE) + re.findall(r"`(\S*alembic) ", README)
    assert {Path(each).parts[0] for each in named} == {"scripts", "docker", ".venv"}


def test_the_readmes_script_dispatches_from_elsewhere(tmp_path: Path) -> None:
    app = Documented.of(ROOT / "README.md", tmp_path)
    app.migrate()
    assert app.python("send_greetings.py").stdout == "102 mails wait\n"
    assert app.run()["completed"] == ["app.jobs.send_notice.SendNotice"] * 101


def test_the_readmes_middleware_fits_the_readmes_routes(tmp_path: Path) -> None:
    app = Documented.of(ROOT / "README.md", tmp_path)
    routes = tmp_path / "app" / "routers" / "doors.py"
    text = routes.read_text().replace("middleware=[LogMessages]", "middleware=[KnownHouses]")
    routes.write_text(f"from app.middleware.known_houses import KnownHouses\n{text}")
    app.migrate()
    report = app.run(message("houses/unknown/doors/1/opened", {"user_id": 7}))
    assert (report["dropped"], report["completed"]) == (["houses/unknown/doors/1/opened"], [])


def test_the_readmes_test_passes_and_can_fail(tmp_path: Path) -> None:
    app = Documented.of(ROOT / "README.md", tmp_path)
    pytest_command = ("-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "tests/test_doors.py")
    assert "1 passed" in app.python(*pytest_command).stdout
    test = tmp_path / "tests" / "test_doors.py"
    whole = test.read_text()
    test.write_text(whole.replace('"user_id": 7', '"user_id": "x"'))
    with pytest.raises(AssertionError, match=r"core\.errors\.PayloadError: "):
        app.python(*pytest_command)
    test.write_text(whole)
    controller = tmp_path / "app" / "controllers" / "door_controller.py"
    controller.write_text(controller.read_text().replace("if payload.by_force", "if not payload.by_force"))
    with pytest.raises(AssertionError, match="1 failed"):
        app.python(*pytest_command)


def test_the_python_face_runs_as_printed(tmp_path: Path) -> None:
    app = Documented.of(ROOT / "docs" / "python-face.md", tmp_path)
    assert len(app.blocks) == 8
    app.migrate()
    report = app.run(
        message("devices/pump-7/status", '"online"'),
        message("sensors/mill/4/telemetry", {"value": 101.5}),
        message("sensors/mill/logs/a/b", "text"),
        message("valves/v1/set", {"id": 1, "percent": 50}),
        message("valves/v1/set", {"id": 1, "percent": 50}),
        message("valves/v1/set", {"id": 2, "percent": 50}),
        message("valves/v1/log", "text"),
        message("valves/v1/set", {"percent": 50}),
    )
    assert report["routes"] == [
        "devices/{device_id}/status",
        "sensors/{site}/{sensor_id:int}/telemetry",
        "sensors/{site}/logs/{path:rest}",
        "valves/{valve}/set",
        "valves/{valve}/log",
    ]
    assert report["published"] == [["devices/pump-7/seen", '{"topic":"devices/pump-7/status","said":"online"}']]
    assert report["completed"].count("app.jobs.raise_alarm.RaiseAlarm") == 5
    assert report["completed"].count("app.jobs.move_valve.MoveValve") == 2
    assert report["completed"].count("printed.SendEmail") == 3
    assert report["completed"].count("printed.SendWelcome") == 2
    assert report["troubles"] == []
    (failure,) = report["failed_messages"]
    assert "MessagePartError: route 'valves/{valve}/set': 'payload.id'" in failure


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_mentioned_exists(document: Path) -> None:
    mentioned = set(re.findall(r"main\.py --([a-z-]+)", document.read_text()))
    assert mentioned <= COMMANDS.keys()


def test_the_readme_lists_every_command() -> None:
    listed = set(re.findall(r"`--([a-z-]+)", README))
    hidden = {"shared-process"}
    assert COMMANDS.keys() - hidden <= listed


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"queue-work", "shared-process"}))
def test_the_readme_lists_every_option_with_its_command(name: str) -> None:
    rows = "".join(line for line in README.splitlines() if line.startswith("|") and f"`--{name}" in line)
    command = cli.get_command(click.Context(cli), name)
    assert command
    for option in command.params:
        is_told_of = re.search(rf"{option.opts[0]}\b", rows) or option.name == "as_json"  # above the table, for all
        assert isinstance(option, click.Argument) or is_told_of, option.opts


def test_the_readme_lists_every_option_of_the_worker() -> None:
    for option in queue_work.params:
        assert getattr(option, "hidden", False) or f"`{option.opts[0]}" in README


def test_the_readme_names_no_option_that_nothing_takes() -> None:
    listed = set(re.findall(r"`--([a-z-]+)", README))
    commands = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    taken = {
        option.removeprefix("--") for command in commands if command for each in command.params for option in each.opts
    }
    assert listed <= COMMANDS.keys() | taken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^):]+)\)", document.read_text()):
        assert (document.parent / target).exists()


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:app|docs|scripts|config|core|deploy)/[\w/.-]*\w/?)`", README):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_that_are_mentioned_exist(document: Path) -> None:
    known = (ROOT / ".env.example").read_text()
    text = document.read_text()
    for name in re.findall(r"\b(?:APP|MQTT|QUEUE|DATABASE|REDIS)_[A-Z_]+", text):
        assert f"\n{name}=" in known, name
