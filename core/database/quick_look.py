"""A look at the database through its bare driver, for a process that may never need more of it.

A worker on Redis wants to know at its start that failed_jobs is there, and writes into it when a job is given up, if
one ever is. SQLAlchemy, by which it does so, takes 0.2 s to load, and 20 MB of every process.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from core.database.url import DatabaseUrl

_SECONDS = 1.0
_PLAIN_URL = re.compile(r"postgresql\+asyncpg://[\w.%~-]+(:[\w.%~-]*)?@[\w.-]+(:\d+)?/[\w-]+")
"""One that asyncpg reads as SQLAlchemy does."""
_QUERY = "SELECT version_num FROM alembic_version"


async def applied_revisions(url: DatabaseUrl) -> set[str] | None:
    """The migrations that the database says it is at. None says nothing: to look through SQLAlchemy tells more."""
    try:
        if url.path is not None:
            return _of_sqlite(url.path)
        if _PLAIN_URL.fullmatch(url.text):
            return await _of_postgresql(url.text.replace("+asyncpg", "", 1))
    except Exception:  # whatever is wrong, the other look finds it as well, and has the words for it
        return None
    return None


def _of_sqlite(path: Path) -> set[str]:
    """Waits for nothing: where another process holds the file, it raises."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
        return {revision for (revision,) in connection.execute(_QUERY)}


async def _of_postgresql(url: str) -> set[str]:
    import asyncpg  # type: ignore[import-untyped]

    connection = await asyncpg.connect(url, timeout=_SECONDS)
    try:
        return {row["version_num"] for row in await connection.fetch(_QUERY, timeout=_SECONDS)}
    finally:
        await connection.close(timeout=_SECONDS)
