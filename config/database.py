"""The database: failed_jobs always, the queues with QUEUE_CONNECTION=database, and the app's own models."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, PositiveInt, field_validator
from pydantic_settings import SettingsConfigDict

from core.settings import Section, SomeSeconds, beside_main

_RELATIVE = re.compile(r"^(sqlite(?:\+aiosqlite)?:///)(?=[^/:?])(?!file:)", re.IGNORECASE)


class DatabaseSettings(Section):
    model_config = SettingsConfigDict(env_prefix="DATABASE_")

    url: str = Field(
        "sqlite+aiosqlite:///storage/routemq.sqlite3",
        repr=False,  # it holds a password
        validate_default=True,
        description="sqlite:///path, postgresql://user:password@host/name or mysql://user:password@host/name",
    )
    pool_size: PositiveInt = Field(10, description="connections of one process at most")
    pool_timeout: SomeSeconds = Field(30.0, description="seconds to wait for a free connection")
    answer_timeout: SomeSeconds = Field(
        30.0, description="seconds that PostgreSQL and MySQL get for an answer, and an idle transaction to go on"
    )
    sqlite_synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL", description="NORMAL survives a crash of the process, FULL a power cut as well"
    )

    @field_validator("url")
    @classmethod
    def _from_main(cls, url: str) -> str:
        """A relative path of SQLite begins beside main.py: it is one file, wherever a program is started."""
        return _RELATIVE.sub(lambda found: f"{found[1]}{beside_main('')}/", url.strip())
