"""Dispatch within the caller's own transaction: what it changes and the job are stored together, or neither is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DispatchError
from core.queue.driver import Driver, TransactionalDriver

if TYPE_CHECKING:
    from sqlalchemy import URL, Dialect

    from core.database.url import DatabaseUrl

_PORTS = {"postgresql": 5432, "mysql": 3306}
_HERE = frozenset({"", "localhost", "127.0.0.1", "::1"})


def transactional(driver: Driver) -> TransactionalDriver:
    """The driver, where its store takes part in transactions of a session's. Raises DispatchError where it does not."""
    if isinstance(driver, TransactionalDriver):
        return driver
    raise DispatchError(
        f"dispatch(session=…) stores a job in the transaction of a database, and QUEUE_CONNECTION={driver.connection} "
        "keeps jobs elsewhere. Dispatch without it once the session is committed, or set QUEUE_CONNECTION=database."
    )


def require_session_of(database: DatabaseUrl | None, session: Any) -> None:
    """Raise DispatchError unless `session` is an AsyncSession of this database, spoken to through the same library."""
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    if not isinstance(session, AsyncSession):
        what = "is not async" if isinstance(session, Session) else f"is a {type(session).__qualname__}"
        raise DispatchError(f"dispatch(session=…) needs an AsyncSession, and what it was given {what}. {_REMEDY}")
    try:
        engine = session.get_bind().engine
    except SQLAlchemyError as error:
        raise DispatchError(f"dispatch(session=…) cannot tell the session's database: {error}. {_REMEDY}") from error
    if database is None or _place_of(engine.url, engine.dialect) != _own_place(database):
        where = database.address if database else "none that this Application knows"
        raise DispatchError(
            f"The session given to dispatch() is of {engine.url.render_as_string()}, and the queues are in {where}: "
            f"they share no transaction. {_REMEDY}"
        )


_REMEDY = "Take one of `await Model.get_session()`, or dispatch without it once the session is committed."


def _own_place(database: DatabaseUrl) -> tuple[object, ...]:
    from sqlalchemy import make_url

    url = make_url(database.text)
    return _place_of(url, url.get_dialect())


def _place_of(url: URL, dialect: Dialect | type[Dialect]) -> tuple[object, ...]:
    """What is equal for two URLs of one database."""
    name = "mysql" if dialect.name == "mariadb" else dialect.name
    if name == "sqlite":
        return name, dialect.driver, Path(url.database or "").resolve()
    host = url.host or ""
    return name, dialect.driver, "" if host in _HERE else host, url.port or _PORTS.get(name), url.database
