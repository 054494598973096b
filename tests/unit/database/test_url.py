"""DATABASE_URL: every way to write it, and what is said of the wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.database.url import parse_url, without_password
from core.errors import SettingError


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite+aiosqlite:////srv/a.db", "sqlite+aiosqlite:////srv/a.db"),
        ("postgres://u:p@h:5433/n", "postgresql+asyncpg://u:p@h:5433/n"),
        ("postgresql://h/n?ssl=require", "postgresql+asyncpg://h/n?ssl=require"),
        ("postgresql+asyncpg://h/n", "postgresql+asyncpg://h/n"),
        ("mysql://u@h/n", "mysql+asyncmy://u@h/n"),
        ("mariadb://u@h/n", "mysql+asyncmy://u@h/n"),
        (" MySQL+asyncmy://u@h/n ", "mysql+asyncmy://u@h/n"),
    ],
)
def test_the_drivers_name_may_be_left_out(url: str, text: str) -> None:
    assert parse_url(url).text == text


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgres://user:p@ss@db.example:5433/name?ssl=require", "postgresql://db.example:5433/name"),
        ("mysql://user:secret@[::1]:3306/name", "mysql://[::1]:3306/name"),
        ("sqlite:////srv/a.db?timeout=3", "sqlite:////srv/a.db"),
        ("postgresql://host/db?user=u&password=abc@secret", "postgresql://host/db"),
        ("postgresql://user:se?cr/et@host/db?ssl=require", "postgresql://host/db"),
    ],
)
def test_the_address_is_without_user_and_password(url: str, address: str) -> None:
    assert parse_url(url).address == address


def test_an_sqlite_file_may_be_relative_or_absolute() -> None:
    assert parse_url("sqlite:///storage/a.db").path == Path("storage/a.db")
    assert parse_url("sqlite:////srv/a.db").path == Path("/srv/a.db")
    assert parse_url("mysql://h/n").path is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "names no database"),
        ("storage/a.db", "names no database"),
        ("oracle://h/n", "names no database"),
        ("postgresql+psycopg2://h/n", "through asyncpg, not psycopg2"),
        ("mysql+pymysql://h/n", "through asyncmy, not pymysql"),
        ("postgresql://h:port/n", "port 'port'"),
        ("mysql://h:70000/n", "port '70000'"),
        ("postgresql://h:5432/n?user=u&password=abc@x", "%40"),
        ("postgresql://h?user=u&password=abc@x", "%40"),
        ("sqlite://", "a file that processes share"),
        ("sqlite:///:memory:", "a file that processes share"),
        ("sqlite:///file:x?mode=memory", "a file that processes share"),
        ("sqlite://relative.db", "a file that processes share"),
    ],
)
def test_a_wrong_url_is_refused_with_variable_value_and_remedy(url: str, reason: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse_url(url)
    message = str(refused.value)
    assert f"DATABASE_URL={without_password(url)!r}" in message
    assert reason in message
    assert "rite " in message
    assert ".env" in message


@pytest.mark.parametrize(
    "url",
    [
        "oracle://user:secret@h/n",
        "oracle://user:sec@secret@h/n",
        "oracle://h/n?password=secret&x=1",
        "mysql://h?password=abc@secret",
    ],
)
def test_no_message_shows_a_password(url: str) -> None:
    assert "secret" not in without_password(url)
    with pytest.raises(SettingError) as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)
