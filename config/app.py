"""Where the user's code is found, and how long a program waits for its servers."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from core.settings import Seconds, Section


class AppSettings(Section):
    model_config = SettingsConfigDict(env_prefix="APP_")

    package: str = Field("app", description="the importable package that holds routers, controllers, jobs and models")
    start_timeout: Seconds = Field(60.0, description="seconds to wait at start for the broker, Redis and the database")
    grace: Seconds = Field(25.0, description="seconds that running jobs and controllers get to end after SIGTERM")
    health_file: str | None = Field(
        None,
        description="a file that a running router or worker touches while it is healthy; for health checks",
    )
