"""The connection to the database, shared by the queue driver, failed_jobs and the app's own models."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from core.clock import Backoff
from core.database.url import DatabaseUrl, Dialect, parse_url
from core.errors import QueueUnavailableError, SchemaOutdatedError, SettingError

if TYPE_CHECKING:
    from sqlalchemy import Connection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

Answer = TypeVar("Answer")
Work = Callable[["AsyncConnection"], Awaitable[Answer]]

_TRIES = 6
_BUSY_SECONDS = 5
"""How long SQLite waits for another process's write before it gives up."""
_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 30.0
"""How long a read or write may take, the wait for a connection included. There is no server to SQLite that could
fall silent, and its waiting for a lock ends by itself."""
_LONG_ANSWER_SECONDS = 3600.0
"""The same for what may touch every row of a table."""
_CLOSE_SECONDS = 5.0
_RECYCLE_SECONDS = 3600
_OLDEST_SQLITE = (3, 35)
"""The first with UPDATE … RETURNING."""

_CONNECT_ARGUMENTS: dict[Dialect, dict[str, Any]] = {
    # A write begins with BEGIN IMMEDIATE: it waits for its turn at once, instead of failing on the way from a
    # read to a write. Reads take no transaction, so a session that only read is in nobody's way.
    "sqlite": {"timeout": _BUSY_SECONDS, "isolation_level": "IMMEDIATE"},
    # Plans are made for the table as it is: one cached while the queue was empty reads all of a full one. And
    # with the default cost of a random read, that of a spinning disk, stale statistics lead to collecting and
    # sorting all that a queue holds, instead of reading its first jobs off the index.
    "postgresql": {
        "timeout": _CONNECT_SECONDS,
        "server_settings": {
            "timezone": "UTC",
            "plan_cache_mode": "force_custom_plan",
            "random_page_cost": "1.1",
            "application_name": "routemq",
        },
    },
    # Strict, lest a server that is not cut a long text off in silence.
    "mysql": {
        "connect_timeout": _CONNECT_SECONDS,
        "init_command": "SET time_zone = '+00:00', sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    },
}
_ENGINE_ARGUMENTS: dict[Dialect, dict[str, Any]] = {
    "sqlite": {"pool_reset_on_return": None},  # whoever began a transaction has ended it
    "postgresql": {},
    "mysql": {"isolation_level": "READ COMMITTED"},  # no gap locks between fetchers and dispatchers
}


class Database:
    """A pool of connections, opened at its first use; SQLAlchemy is not even imported before."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        pool_timeout: float = 30.0,
        answer_timeout: float = _ANSWER_SECONDS,
        sqlite_synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
    ) -> None:
        """`pool_timeout` and `answer_timeout` are in seconds. Raises SettingError for a URL that cannot be used."""
        self.url: DatabaseUrl = parse_url(url)
        self._answer_timeout = answer_timeout
        self._pool = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": pool_timeout}
        self._sqlite_synchronous = sqlite_synchronous
        self._turn: AbstractAsyncContextManager[Any] = asyncio.Lock() if self.url.dialect == "sqlite" else nullcontext()

    @property
    def dialect(self) -> Dialect:
        return self.url.dialect

    @property
    def address(self) -> str:
        """Where the database is, without user and password."""
        return self.url.address

    @property
    def lacks_file(self) -> bool:
        """Whether it is one of SQLite that was never made."""
        return self.url.path is not None and not self.url.path.exists()

    def require_file(self) -> None:
        """Raise SchemaOutdatedError where the file of an SQLite database is not there; connecting would make it."""
        if self.lacks_file:
            raise SchemaOutdatedError(f"The database {self.address} does not exist yet. Run: python main.py --migrate")

    @cached_property
    def engine(self) -> AsyncEngine:
        from sqlalchemy import event
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(
            self.url.text,
            connect_args=self._connect_arguments(),
            hide_parameters=True,  # errors go to the log, payloads do not
            pool_recycle=_RECYCLE_SECONDS,
            **_ENGINE_ARGUMENTS[self.dialect],
            **self._pool,
        )
        event.listen(engine.sync_engine, "do_connect", self._connect)
        event.listen(engine.sync_engine, "handle_error", _leave_read_only_server)
        if self.url.path:
            event.listen(engine.sync_engine, "savepoint", _begin_before_savepoint)
            self._prepare_sqlite(self.url.path)
        return engine

    async def read(self, work: Work[Answer]) -> Answer:
        """Run `work`, which changes nothing, outside of any transaction. Raises as `write` does."""
        return await self._repeat(lambda: self._in_time(self._read(work), self._answer_timeout))

    async def write(self, work: Work[Answer], *, single: bool = False, takes_long: bool = False) -> Answer:
        """Run `work` in one transaction of its own; once more where it lost a race or met a dead connection.

        `single` says that it is one statement, which is atomic by itself and needs no BEGIN and COMMIT;
        `takes_long`, that it may touch every row of a table. Raises QueueUnavailableError where the database
        cannot be reached, or gives no answer: what was asked may have happened. Raises SchemaOutdatedError where
        a table is missing.
        """
        seconds = _LONG_ANSWER_SECONDS if takes_long else self._answer_timeout
        return await self._repeat(lambda: self._in_time(self._write(work, single), seconds))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction around a block of the caller's, which is not repeated. Raises as `write` does.

        On SQLite nothing else of this process is written meanwhile: a block that waits for that never ends.
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            async with self._begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            self.explain(error)

    def session(self) -> AsyncSession:
        """A session of SQLAlchemy's, for the app's models.

        Its block raises QueueUnavailableError where the database cannot be reached, and any other error as it is.
        """
        return self._sessions()

    async def ping(self) -> None:
        """Reach the database, or raise QueueUnavailableError."""
        await self.read(lambda connection: connection.exec_driver_sql("SELECT 1"))

    async def close(self) -> None:
        """Close every connection. A later use opens new ones."""
        engine = self.__dict__.pop("engine", None)
        self.__dict__.pop("_sessions", None)
        self.__dict__.pop("_autocommit", None)
        if engine is not None:
            with suppress(TimeoutError):  # a server that is frozen does not say goodbye
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await engine.dispose()

    @cached_property
    def _sessions(self) -> async_sessionmaker[AsyncSession]:
        from sqlalchemy.ext.asyncio import async_sessionmaker

        from core.database.session import Session

        return async_sessionmaker(self.engine, class_=Session, expire_on_commit=False, explain=self.explain)

    @cached_property
    def _autocommit(self) -> AsyncEngine:
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def _connect(self, dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
        """Connect. That a server is not there is no error of theirs with some drivers; SQLAlchemy hands it on bare."""
        try:
            return dialect.connect(*arguments, **options)
        except (OSError, RuntimeError) as error:
            self.explain(error)

    async def _in_time(self, work: Awaitable[Answer], seconds: float) -> Answer:
        try:
            async with asyncio.timeout(None if self.dialect == "sqlite" else seconds):
                return await work
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {seconds:g} s") from error

    async def _read(self, work: Work[Answer]) -> Answer:
        async with self._connection(self._autocommit if self.dialect == "postgresql" else self.engine) as connection:
            return await work(connection)

    async def _write(self, work: Work[Answer], single: bool) -> Answer:
        if single and self.dialect != "mysql":
            async with self._turn, self._connection(self.engine) as connection:
                answer = await work(connection)
                if connection.in_transaction():  # it went through SQLAlchemy
                    await connection.commit()
                return answer
        async with self._begin() as connection:
            return await work(connection)

    @asynccontextmanager
    async def _connection(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """A connection of `engine`, given back to its pool at the end of the block.

        Where that asks the server, it has to go on when the caller is cancelled, as in SQLAlchemy's own `async with`:
        a reset that is cut short costs the connection. So it is shielded then, which takes a task of its own; that is
        much beside a small statement. Nothing is asked outside of a transaction, where SQLAlchemy's rollback on asyncpg
        returns at once, and connections to SQLite are not reset (see _ENGINE_ARGUMENTS). The reset on MySQL sends
        ROLLBACK even there.
        """
        connection = await engine.connect()
        try:
            yield connection
        finally:
            closing = connection.close()
            await (asyncio.shield(closing) if self.dialect == "mysql" or connection.in_transaction() else closing)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        # SQLite has one writer at a time. Taking turns here is prompt; its own waiting is by sleeps.
        async with self._turn, self.engine.begin() as connection:
            if self.dialect == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    async def _repeat(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        tries = 0
        backoff = Backoff(0.01, 0.5)
        while True:
            tries += 1
            try:
                return await work()
            except Exception as error:
                if tries == _TRIES or not _is_passing(error):
                    self.explain(error)
            await asyncio.sleep(backoff.next())

    def explain(self, error: Exception) -> NoReturn:
        """Raise what a database error means, with the address; any other error as it is."""
        from core.database.error_kinds import is_cut_short, is_missing_table, is_race, is_refusing, is_unreachable

        reason = str(getattr(error, "orig", None) or error) or type(error).__name__
        if is_missing_table(error):
            raise SchemaOutdatedError(
                f"The database {self.address} lacks a table or column ({reason}). Run: python main.py --migrate"
            ) from error
        if is_race(error) or is_cut_short(error):
            raise QueueUnavailableError(
                f"The database {self.address} is busy: {reason}. Look for a transaction that stays open, of another "
                "program for instance.",
                server=self.address,
            ) from error
        if is_refusing(error):
            raise QueueUnavailableError(
                f"The database {self.address} takes no work for now: {reason}. See to that server, or let DATABASE_URL "
                "name another.",
                server=self.address,
            ) from error
        if is_unreachable(error):
            raise QueueUnavailableError(
                f"The database {self.address} cannot be reached: {reason}. Start it, or correct DATABASE_URL.",
                server=self.address,
            ) from error
        raise error

    def _prepare_sqlite(self, path: Path) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise SettingError(
                f"DATABASE_URL names SQLite, and this Python has SQLite {sqlite3.sqlite_version}; "
                "RouteMQ needs 3.35 or later. Use a newer Python, or PostgreSQL or MySQL."
            )
        _make_directory(path.parent)

    def _connect_arguments(self) -> dict[str, Any]:
        arguments = _CONNECT_ARGUMENTS[self.dialect]
        if self.dialect != "sqlite":
            return _with_idle_limit(self.dialect, arguments, max(1, ceil(self._answer_timeout)))
        from core.database.sqlite_connection import connect

        pragmas = {
            "busy_timeout": _BUSY_SECONDS * 1000,
            "journal_mode": "WAL",
            "synchronous": self._sqlite_synchronous,
            "foreign_keys": "ON",
        }
        return {**arguments, "async_creator_fn": partial(connect, pragmas=pragmas)}


def _with_idle_limit(dialect: Dialect, arguments: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Let the server end a transaction in which nothing was asked for so long.

    A process that is frozen in one, or whose machine is gone without a word, holds the locks of its jobs: nobody
    else could rescue them. MySQL has no such limit; what only MariaDB has, a comment hides from it.
    """
    if dialect == "postgresql":
        limit = {"idle_in_transaction_session_timeout": f"{seconds}s"}
        return {**arguments, "server_settings": {**arguments["server_settings"], **limit}}
    return {**arguments, "init_command": f"{arguments['init_command']} /*M! , idle_transaction_timeout = {seconds} */"}


def _begin_before_savepoint(connection: Connection, _name: str) -> None:
    """Python begins a transaction of SQLite's with the first write, and a savepoint outside of any is one by itself:
    to release that would be to commit what is in it, whatever becomes of the session."""
    pooled: Any = connection.connection
    if not pooled.driver_connection.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _make_directory(directory: Path) -> None:
    """One level, such as `storage`: where more is missing, the path is a mistake."""
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"DATABASE_URL names a file in {directory.absolute()}, which cannot be made: {error.strerror}. "
            "Make that directory, or correct DATABASE_URL in the environment or in .env."
        ) from error


def _is_passing(error: Exception) -> bool:
    from core.database.error_kinds import is_race, is_stale_connection

    return is_race(error) or is_stale_connection(error)


def _leave_read_only_server(context: ExceptionContext) -> None:
    """After a failover, the address leads to the new primary, and the pool's connections to the old one."""
    from core.database.error_kinds import is_read_only

    if context.sqlalchemy_exception is not None and is_read_only(context.sqlalchemy_exception):
        context.is_disconnect = True
