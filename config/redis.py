"""Redis: the queues with QUEUE_CONNECTION=redis, shared rate limits, and redis_manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from core.settings import Section

if TYPE_CHECKING:
    from core.redis.address import RedisAddress


class RedisSettings(Section):
    model_config = SettingsConfigDict(env_prefix="REDIS_")

    url: SecretStr | None = Field(
        None,
        description="redis://user:password@host:port/db, or Sentinel or Cluster: docs/redis.md; "
        "wins over the single settings",
    )
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
        if url:  # an installation without Redis does not load its library
            from core.redis.address import read_url

            read_url(url.get_secret_value())
        return url

    @property
    def is_configured(self) -> bool:
        return self.url is not None or self.host is not None

    def address(self) -> RedisAddress:
        """Where the servers are, and how to log in there."""
        from core.redis.address import ServerAddress, read_url

        if self.url is not None:
            return read_url(self.url.get_secret_value())
        password = self.password.get_secret_value() if self.password else None
        return ServerAddress(
            {
                "host": self.host or "localhost",
                "port": self.port,
                "db": self.db,
                "username": self.username,
                "password": password,
            }
        )
