"""Logs, on standard error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from core.settings import Section


def _in_capitals(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class LoggingSettings(Section):
    model_config = SettingsConfigDict(env_prefix="LOG_")

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_in_capitals)] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    format: Literal["text", "json"] = Field("text", description="`text` for people, `json` for machines")
