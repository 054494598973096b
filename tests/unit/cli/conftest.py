"""The command line in a place of its own: settings, an SQLite file, and an app package."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from core.application import Application
from core.cli.main import main
from core.database.engine import Database
from core.database.migrations import upgrade
from core.settings import load_settings, section_classes, variable

T = TypeVar("T")

APP = {
    "__init__.py": "",
    "jobs.py": """
from core.job import Job

class SendEmail(Job):
    queue = "emails"
    max_tries = 5
    retry_after = 30
    timeout = 10
    to: str

class Ping(Job):
    pass
""",
    "routers.py": """
from core.router import Router

def ingest(payload: bytes) -> None: ...

router = Router()
router.on("sensors/{id}/telemetry", ingest, qos=0, deduplicate_by="payload.id", ordered_by="id")
router.on("logs/{path:rest}", ingest, shared=True, worker_count=3)
""",
}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    capsys: pytest.CaptureFixture[str]
    package: str

    def __call__(self, *words: str) -> Result:
        self.capsys.readouterr()
        code = self._run(words)
        out, err = self.capsys.readouterr()
        return Result(code, out, err)

    def inside(self, work: Callable[[Application], Awaitable[T]]) -> T:
        """What `work` returns, given an open Application with the same settings."""

        async def run() -> T:
            async with Application() as app:
                return await work(app)

        return asyncio.run(run())

    def _run(self, words: tuple[str, ...]) -> int:
        try:
            main(words)
        except SystemExit as end:
            return int(end.code or 0)
        return 0


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Commands set logging up for a whole process; pytest's own handlers come back after each test."""
    root = logging.getLogger()
    loggers = [root, logging.getLogger("routemq"), logging.getLogger("app")]
    handlers, levels = root.handlers[:], [each.level for each in loggers]
    root.handlers = []
    yield
    root.handlers = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def fresh(
    restored_logging: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    unique: str,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    """The command line before the first migration."""
    for section in section_classes():
        for field in section.model_fields:
            monkeypatch.delenv(variable(section, field), raising=False)
    monkeypatch.setattr("core.settings.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_app(tmp_path / unique)
    monkeypatch.setenv("APP_PACKAGE", unique)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'queue.sqlite3'}")
    assert load_settings().app.package == unique
    return CommandLine(capsys, unique)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file with every table: copying it is quicker than migrating for each test."""
    file = tmp_path_factory.mktemp("migrated") / "queue.sqlite3"
    asyncio.run(migrate(file))
    return file


async def migrate(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    await upgrade(database)
    await database.close()


@pytest.fixture
def run(fresh: CommandLine, migrated_file: Path) -> CommandLine:
    """The command line on a database that is up to date."""
    shutil.copy(migrated_file, Path.cwd())
    return fresh


def write_app(folder: Path) -> None:
    folder.mkdir()
    for name, text in APP.items():
        (folder / name).write_text(text)
