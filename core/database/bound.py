"""Which database the app's models use: that of the open Application.

Apart from the models, so that a process that has none does not load SQLAlchemy's ORM to open an Application.
"""

from __future__ import annotations

from core.database.engine import Database
from core.errors import NotRunningError

_bound: list[Database] = []
"""The databases of the open Applications; models use that of the last one opened."""


def bind(database: Database) -> None:
    """Let models use this database."""
    _bound.append(database)


def unbind(database: Database) -> None:
    """End what `bind` began."""
    if database in _bound:
        _bound.remove(database)


def bound_database() -> Database:
    """The database of the open Application, or NotRunningError."""
    if not _bound:
        raise NotRunningError(
            "Models have no database: no Application is open in this process. "
            "Use them inside `async with Application():`, a controller or a job."
        )
    return _bound[-1]
