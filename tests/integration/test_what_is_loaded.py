"""What a program has no use for, it does not load: SQLAlchemy alone takes 0.2 s of a start, and 20 MB."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.database.engine import Database
from core.database.migrations import upgrade
from tests.project import clean_environment, make_project

ROOT = Path(__file__).parents[2]
HEAVY = {
    "aiomqtt",
    "aiosqlite",
    "alembic",
    "asyncio",
    "asyncpg",
    "multiprocessing",
    "paho",
    "pydantic",
    "redis",
    "sqlalchemy",
}

COMMAND = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sys.modules))
sys.argv[0] = "main.py"
from core.cli.main import main
main()
"""
DISPATCH = """
import asyncio, sys
from core.application import Application
from core.handle_message import HandleMessage
from core.queue.queue_manager import dispatch

async def main():
    async with Application():
        await dispatch(HandleMessage(topic="a", payload=b""))
    print("LOADED", *sys.modules)

asyncio.run(main())
"""


@pytest.fixture
async def settings(tmp_path: Path, redis_url: str, redis_prefix: str) -> Mapping[str, str]:
    """Of an app that has its queues on Redis, and one (empty) job."""
    make_project(tmp_path)  # the checkout may have a .env
    package = tmp_path / "small_app"
    (package / "jobs").mkdir(parents=True)
    (package / "__init__.py").touch()
    url = f"sqlite:///{tmp_path}/failed.sqlite3"
    database = Database(url)
    await upgrade(database)
    await database.close()
    return {
        "APP_PACKAGE": package.name,
        "QUEUE_CONNECTION": "redis",
        "REDIS_URL": redis_url,
        "REDIS_PREFIX": redis_prefix,
        "DATABASE_URL": url,
        "PYTHONPATH": str(tmp_path),
    }


def heavy(code: str, *words: str, **settings: str) -> set[str]:
    """The heavy libraries that a program has loaded at its end."""
    # Without what has coverage measured in it, which loads libraries of its own.
    inherited = {name: value for name, value in clean_environment().items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=settings.get("PYTHONPATH", ROOT),  # where `python -c` looks first
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert "core" in loaded
    return {name.partition(".")[0] for name in loaded} & HEAVY


def test_help_loads_nothing_heavy() -> None:
    assert heavy(COMMAND, "--help") == set()


def test_a_worker_on_redis_loads_no_database_library_before_it_has_a_failure_to_write(
    settings: Mapping[str, str],
) -> None:
    assert heavy(COMMAND, "--queue-work", "--stop-when-empty", **settings) == {"asyncio", "pydantic", "redis"}


def test_who_dispatches_to_redis_loads_no_database_library(settings: Mapping[str, str]) -> None:
    assert heavy(DISPATCH, **settings) == {"asyncio", "pydantic", "redis"}


def test_a_worker_on_a_database_loads_no_redis_library(settings: Mapping[str, str]) -> None:
    on_database = {name: value for name, value in settings.items() if not name.startswith("REDIS")}
    on_database["QUEUE_CONNECTION"] = "database"
    loaded = heavy(COMMAND, "--queue-work", "--stop-when-empty", **on_database)
    assert loaded == {"aiosqlite", "asyncio", "pydantic", "sqlalchemy"}
