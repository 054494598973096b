"""Reads the settings once, when a program starts, and hands them down as one typed value.

The sections live in `config/`, one file per concern, and are found by name: `core` imports nothing of
them. A section is a pydantic-settings model; real environment variables win over `.env`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.clock import CENTURY
from core.errors import SettingError

if TYPE_CHECKING:
    from config.app import AppSettings
    from config.database import DatabaseSettings
    from config.logging import LoggingSettings
    from config.mqtt import MqttSettings
    from config.queue import QueueSettings
    from config.redis import RedisSettings

ROOT = Path(__file__).absolute().parents[1]
"""Where main.py is."""

Seconds: TypeAlias = Annotated[float, Field(ge=0, le=CENTURY, allow_inf_nan=False)]
SomeSeconds: TypeAlias = Annotated[float, Field(gt=0, le=CENTURY, allow_inf_nan=False)]
"""More than none."""


def beside_main(path: str | Path) -> Path:
    """Where a file of this installation is, wherever a program is started; an absolute path is left as it is."""
    return ROOT / path


class Section(BaseSettings):
    """One concern's settings. A field's environment variable is the prefix and its name, in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, env_file_encoding="utf-8")


@dataclass(frozen=True)
class Settings:
    app: AppSettings
    mqtt: MqttSettings
    queue: QueueSettings
    database: DatabaseSettings
    redis: RedisSettings
    logging: LoggingSettings


_SECTIONS = {
    "app": "AppSettings",
    "mqtt": "MqttSettings",
    "queue": "QueueSettings",
    "database": "DatabaseSettings",
    "redis": "RedisSettings",
    "logging": "LoggingSettings",
}


def load_settings(env_file: str | Path | None = ".env", **overrides: Any) -> Settings:
    """Read every section of `config/` from the environment and `env_file`, of which a relative path begins
    beside main.py.

    `overrides` replaces fields by section, e.g. `mqtt={"port": 1884}`. Raises SettingError, which names
    every variable that is wrong, its value, and the remedy.
    """
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # what it says of a bad line, we say once, and with a name
    problems: list[str] = []
    sections = {
        name: _load_section(name, class_name, env_file, overrides.get(name, {}), problems)
        for name, class_name in _SECTIONS.items()
    }
    if problems:
        raise SettingError("\n".join(problems))
    return Settings(**sections)


def section_classes() -> Sequence[type[Section]]:
    """The classes of `config/`, for whoever lists the settings."""
    return [_section_class(name, class_name) for name, class_name in _SECTIONS.items()]


def variable(section: type[Section], field: str) -> str:
    """The environment variable of a section's field."""
    alias = section.model_fields[field].validation_alias
    prefix = str(section.model_config.get("env_prefix", ""))
    return str(alias) if alias else f"{prefix}{field}".upper()


def _section_class(name: str, class_name: str) -> type[Section]:
    found: type[Section] = getattr(import_module(f"config.{name}"), class_name)
    return found


def _load_section(
    name: str, class_name: str, env_file: str | Path | None, overrides: dict[str, Any], problems: list[str]
) -> Any:
    section = _section_class(name, class_name)
    try:
        file = None if env_file is None else beside_main(env_file)
        return section(_env_file=file, **overrides)  # type: ignore[call-arg]
    except ValidationError as error:
        problems.extend(_describe(section, problem) for problem in error.errors())
    except UnicodeDecodeError as error:
        raise SettingError(f"{env_file} is not text in UTF-8 ({error}). Save it as UTF-8.") from error


def _without_login(value: Any) -> Any:
    """An address as it may be shown: without user and passwords."""
    if not isinstance(value, str):
        return value
    return re.sub("(password=)[^&]*", r"\1***", re.sub("^(.*?//)?.*@", r"\1***@", value))


_WORDS = {
    "string_pattern_mismatch": "it has a character or a form that cannot be",
    "string_too_short": "it is too short",
    "int_parsing": "it is no whole number",
    "int_from_float": "it is no whole number",
    "float_parsing": "it is no number",
    "finite_number": "it is no finite number",
    "bool_parsing": "it is neither true nor false",
    "path_not_file": "it is no file that is there",
    "literal_error": "it must be {expected}",
    "greater_than": "it must be above {gt}",
    "greater_than_equal": "it must be {ge} or more",
    "less_than_equal": "it must be {le} or less",
    "value_error": "{error}",
}
"""What pydantic finds, in words for whoever writes a setting."""


def _words(problem: Any) -> str:
    words = _WORDS.get(problem["type"])
    limits = {name: f"{value}".removesuffix(".0") for name, value in problem.get("ctx", {}).items()}
    return words.format(**limits) if words else str(problem["msg"])


def _describe(section: type[Section], problem: Any) -> str:
    if not problem["loc"]:
        return f"{section.__name__}: {_words(problem)}; correct the environment or .env."
    field = str(problem["loc"][0])
    name = variable(section, field) if field in section.model_fields else field
    hint = section.model_fields[field].description if field in section.model_fields else None
    value = "***" if "PASSWORD" in name.upper() else repr(_without_login(problem["input"]))
    remedy = f" It is: {hint}." if hint else ""
    return f"{name}={value} is not usable: {_words(problem)}.{remedy} Correct it in the environment or in .env."
