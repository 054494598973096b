"""Brings the database up to date, through the Alembic scripts in migrations/.

Alembic is imported only when one of these is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from core.database.engine import Database
from core.database.quick_look import applied_revisions
from core.database.url import DatabaseUrl, Dialect
from core.errors import QueueUnavailableError, SchemaInUseError, SchemaOutdatedError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory
    from sqlalchemy import Connection, MetaData
    from sqlalchemy.ext.asyncio import AsyncConnection

Answer = TypeVar("Answer")

_SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"
_LOCKS: dict[Dialect, tuple[str, str]] = {
    "sqlite": ("", ""),  # the transaction locks out every other writer
    # "routemq", its letters as a number. It ends with the transaction.
    "postgresql": ("SELECT 1 FROM pg_advisory_xact_lock(32210697599675761)", ""),
    "mysql": (
        "SELECT GET_LOCK(CONCAT('routemq-migrate:', MD5(DATABASE())), 600)",
        "SELECT RELEASE_LOCK(CONCAT('routemq-migrate:', MD5(DATABASE())))",
    ),
}
"""What a migration takes before it looks at the schema (1 is the answer to who got it), and how it gives that back."""


@dataclass(frozen=True)
class Migration:
    revision: str
    description: str
    applied: bool


async def upgrade(database: Database) -> list[str]:
    """Apply what is missing; returns the revisions applied. Processes that do so at once take turns.

    Raises QueueUnavailableError where the database cannot be reached.
    """

    def work(connection: Connection) -> list[str]:
        before = _applied(connection)
        _command("upgrade", connection, "heads")
        return _in_order(_applied(connection) - before)

    return await _alone(database, work)


async def rollback(database: Database, *, force: bool = False) -> str | None:
    """Take the last migration back; returns its revision, or None where none is applied.

    Raises SchemaInUseError where jobs, waiting or failed, would go with their tables, unless by `force`.
    """

    def work(connection: Connection) -> str | None:
        before = _applied(connection)
        if len(before) == 1 and not force:  # the first one, which made the tables of the queues
            _refuse_to_lose_jobs(connection, database.address)
        if before:
            _command("downgrade", connection, "-1")
        return next(iter(before - _applied(connection)), None)

    return await _alone(database, work)


async def status(database: Database) -> list[Migration]:
    """Every migration there is, the first one first, and whether it is applied."""
    applied = set() if database.lacks_file else await database.read(lambda connection: connection.run_sync(_applied))
    return [Migration(each.revision, each.doc, each.revision in applied) for each in _scripts_in_order()]


async def require_current(database: Database) -> None:
    """Raise SchemaOutdatedError if a migration is missing. A database newer than this program is let pass."""
    with suppress(SchemaOutdatedError):  # no table of revisions yet: the longer look tells what is missing
        if await database.read(_is_at_head):
            return
    missing = await database.read(lambda connection: connection.run_sync(_missing))
    if missing:
        raise SchemaOutdatedError(
            f"The database {database.address} lacks {len(missing)} migration(s): {', '.join(missing)}. "
            "Run: python main.py --migrate"
        )


async def _is_at_head(connection: AsyncConnection) -> bool:
    """A quick look, as every start takes one: it leaves Alembic alone."""
    rows = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    return set(rows.scalars()) == _head_revisions()


async def looks_current(url: DatabaseUrl) -> bool:
    """A quicker look, which leaves SQLAlchemy alone. False says nothing: `require_current` tells what is wrong."""
    return await applied_revisions(url) == _head_revisions()


def _head_revisions() -> set[str]:
    """Reads the scripts as text."""
    texts = [script.read_text() for script in (_SCRIPTS / "versions").glob("*.py")]
    revisions, parents = (
        {found for text in texts for found in re.findall(rf"^{name}\b.*= [\"'](\w+)[\"']$", text, re.MULTILINE)}
        for name in ("revision", "down_revision")
    )
    return revisions - parents


def model_metadata(package: str) -> list[MetaData]:
    """The tables of the framework and of the app's models, for `alembic revision --autogenerate`."""
    from core.database.model import Model
    from core.database.tables import metadata
    from core.discovery import import_room

    import_room(package, "models")
    return [metadata, Model.metadata]


async def _alone(database: Database, work: Callable[[Connection], Answer]) -> Answer:
    """Run `work` while no other process migrates: two at once would both make the same tables."""

    async def locked(connection: AsyncConnection) -> Answer:
        take, give_back = _LOCKS[database.dialect]
        if take and (await connection.exec_driver_sql(take)).scalar() != 1:
            raise QueueUnavailableError(
                f"The database {database.address} was not migrated: another process migrates it, and has not come to "
                "its end within 10 minutes. Run: python main.py --migrate-status, and --migrate again once it is done."
            )
        try:
            return await connection.run_sync(work)
        finally:
            if give_back:
                await connection.exec_driver_sql(give_back)

    return await database.write(locked, takes_long=True)


def _refuse_to_lose_jobs(connection: Connection, address: str) -> None:
    from sqlalchemy import func, select

    from core.database.tables import failed_jobs, jobs

    waiting, failed = (connection.scalar(select(func.count()).select_from(table)) for table in (jobs, failed_jobs))
    if waiting or failed:
        raise SchemaInUseError(
            f"The database {address} holds {waiting} jobs on queues and {failed} failed ones, which this would delete. "
            "Let workers finish them (--queue-work --stop-when-empty) and delete the failed ones (--queue-flush), "
            "or say --force."
        )


def _command(name: str, connection: Connection, revision: str) -> None:
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    getattr(command, name)(config, revision)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _directory() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())


def _scripts_in_order() -> list[Script]:
    return list(reversed(list(_directory().walk_revisions())))


def _in_order(revisions: AbstractSet[str]) -> list[str]:
    return [each.revision for each in _scripts_in_order() if each.revision in revisions]


def _heads(connection: Connection) -> set[str]:
    from alembic.migration import MigrationContext

    return set(MigrationContext.configure(connection).get_current_heads())


def _applied(connection: Connection) -> set[str]:
    """The revisions that the database has, as far as this program knows them."""
    directory = _directory()
    known = {each.revision for each in directory.walk_revisions()}
    heads = tuple(_heads(connection) & known)
    return {each.revision for each in directory.iterate_revisions(heads, "base")} if heads else set()


def _missing(connection: Connection) -> list[str]:
    scripts = _scripts_in_order()
    if _heads(connection) - {each.revision for each in scripts}:
        return []  # written by a newer version, as in the middle of a rolling deployment
    applied = _applied(connection)
    return [each.revision for each in scripts if each.revision not in applied]
