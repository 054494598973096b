"""DATABASE_URL, brought into the one form that the engine takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from core.errors import SettingError

Dialect = Literal["sqlite", "postgresql", "mysql"]

_DIALECTS: dict[str, Dialect] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_DRIVERS: dict[Dialect, str] = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "asyncmy"}
_FORMS = "sqlite+aiosqlite:///path, postgresql+asyncpg://user:password@host:port/name or mysql+asyncmy://…"


@dataclass(frozen=True)
class DatabaseUrl:
    text: str
    """With the driver's name, as SQLAlchemy reads it. Holds the password: not for logs."""
    dialect: Dialect
    address: str
    """Where it leads, without user and password: for messages."""
    path: Path | None
    """The file of an SQLite database."""


def parse_url(url: str) -> DatabaseUrl:
    """Read DATABASE_URL; the driver's name may be left out. Raises SettingError."""
    scheme, separator, rest = url.strip().partition("://")
    name, _, driver = scheme.lower().partition("+")
    dialect = _DIALECTS.get(name)
    if not separator or dialect is None:
        _refuse(url, f"it names no database that RouteMQ knows. Write {_FORMS}")
    if driver not in ("", _DRIVERS[dialect]):
        _refuse(url, f"RouteMQ speaks to {dialect} through {_DRIVERS[dialect]}, not {driver}. Write {_FORMS}")
    text = f"{dialect}+{_DRIVERS[dialect]}://{rest}"
    if dialect == "sqlite":
        path = _sqlite_path(url, rest)
        return DatabaseUrl(text, dialect, f"sqlite:///{path}", path)
    _check_login(url, rest)
    _check_port(url, rest)
    return DatabaseUrl(text, dialect, f"{dialect}://{_location(rest)}", None)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


def _sqlite_path(url: str, rest: str) -> Path:
    path = rest.removeprefix("/").partition("?")[0]
    if not rest.startswith("/") or not path or "memory" in rest.partition("?")[2] or path.startswith((":", "file:")):
        _refuse(
            url,
            "an SQLite queue is a file that processes share. Write sqlite+aiosqlite:///path/of/the.file "
            "(four slashes for an absolute path), or QUEUE_CONNECTION=memory for one in one process",
        )
    return Path(path)


def _location(rest: str) -> str:
    return rest[_login(rest) :].partition("?")[0].rpartition("@")[2]


def _login(rest: str) -> int:
    """Where user and password end, as SQLAlchemy reads them: a password may hold anything but an @."""
    found = re.match(r"[^:/]*(?::[^@]*)?@", rest)
    return found.end() if found else 0


def _check_login(url: str, rest: str) -> None:
    """Parameters that hold an @ would be taken for user and password, and the rest of them for the host."""
    if "=" in rest[: _login(rest)].partition("?")[2]:
        _refuse(url, "there is an @ behind its ?, or both in its password. Write %40 for an @ and %3F for a ? there")


def _check_port(url: str, rest: str) -> None:
    host = _location(rest).partition("/")[0]
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        _refuse(url, f"its port {port!r} is not a number from 1 to 65535. Write {_FORMS}")


def _refuse(url: str, why: str) -> NoReturn:
    raise SettingError(
        f"DATABASE_URL={without_password(url)!r} is not usable: {why}. Correct it in the environment or in .env."
    )
