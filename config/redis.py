"""Redis: the queues with QUEUE_CONNECTION=redis, shared rate limits, and redis_manager."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from core.settings import Section


class RedisSettings(Section):
    model_config = SettingsConfigDict(env_prefix="REDIS_")

    url: SecretStr | None = Field(None, description="redis://user:password@host:port/db; wins over the single settings")
    host: str | None = Field(None, description="host name; without it and REDIS_URL, Redis is only used for queues")
    port: int = Field(6379, ge=1, le=65535, description="a TCP port")
    db: NonNegativeInt = Field(0, description="number of the database")
    username: str | None = Field(None, description="user name of Redis' access control")
    password: SecretStr | None = Field(None, description="password")
    prefix: str = Field("routemq:", description="what every key of this installation begins with")
    max_connections: int = Field(32, ge=4, description="connections of one process at most")

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: SecretStr | None) -> SecretStr | None:
        from redis.asyncio.connection import parse_url

        try:
            parse_url(url.get_secret_value() if url else "redis://")
        except ValueError:  # its text may hold a part of the password
            raise ValueError("it is no URL that begins with redis://, rediss:// or unix://") from None
        return url

    @property
    def is_configured(self) -> bool:
        return self.url is not None or self.host is not None

    def address(self) -> dict[str, Any]:
        """What `Redis(…)` is given to find the server."""
        password = self.password.get_secret_value() if self.password else None
        return {
            "host": self.host or "localhost",
            "port": self.port,
            "db": self.db,
            "username": self.username,
            "password": password,
        }
