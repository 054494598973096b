"""Where Redis is: one server, the master that Sentinels name, or a cluster. And how its URL is read.

    redis://user:password@host:6379/0                                rediss:// with TLS, unix:// for a socket
    redis+sentinel://user:password@host:26379,host2:26379/master/0   rediss+sentinel:// with TLS
    redis+cluster://user:password@host:6379,host2:6379               rediss+cluster:// with TLS

User and password are those of the servers; `?sentinel_username=…&sentinel_password=…` those of the Sentinels, where
these want any. What else stands behind the question mark are options of redis-py's connections, as `ssl_ca_certs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio.connection import parse_url

Host: TypeAlias = tuple[str, int]

_PORT, _SENTINEL_PORT = 6379, 26379
_OF_SENTINELS = "sentinel_"
_DATABASE = re.compile("/?|/[0-9]+/?")
"""A path."""


@dataclass(frozen=True)
class ServerAddress:
    options: Mapping[str, Any]
    """What a connection is given: host and port, or path, and all else."""

    def __str__(self) -> str:
        path, host, port, database = (self.options.get(name) for name in ("path", "host", "port", "db"))
        if path:
            return f"{path}?db={database}" if database else str(path)
        return f"{host or 'localhost'}:{port or _PORT}{_named(database)}"


@dataclass(frozen=True)
class SentinelAddress:
    sentinels: tuple[Host, ...]
    master: str
    """The name under which the Sentinels know it."""
    options: Mapping[str, Any]
    """What a connection to the master is given besides host and port."""
    sentinel_options: Mapping[str, Any]
    """What one to a Sentinel is given."""

    def __str__(self) -> str:
        return f"{self.master}{_named(self.options.get('db'))} (by Sentinel at {_listed(self.sentinels)})"


@dataclass(frozen=True)
class ClusterAddress:
    nodes: tuple[Host, ...]
    """Of which one is enough to find the others."""
    options: Mapping[str, Any]
    """What a connection to any node is given besides host and port."""

    def __str__(self) -> str:
        return f"{_listed(self.nodes)} (a cluster)"


RedisAddress: TypeAlias = ServerAddress | SentinelAddress | ClusterAddress


def read_url(url: str) -> RedisAddress:
    """Raises ValueError for what is no such URL, in words that hold nothing of it: there may be a password in it."""
    text = url.strip()
    try:
        return _read(urlsplit(text), text)
    except _UrlError:
        raise
    except ValueError:
        raise _UrlError(
            "it is no URL that begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        ) from None


class _UrlError(ValueError):
    """Words of our own."""


def _read(url: SplitResult, text: str) -> RedisAddress:
    match url.scheme.partition("+"):
        case ("redis" | "rediss", "+", "sentinel"):
            return _sentinel_address(url)
        case ("redis" | "rediss", "+", "cluster"):
            return _cluster_address(url)
        case ("redis" | "rediss", "", ""):
            if not text[len(url.scheme) :].startswith("://"):  # of which redis-py makes localhost
                raise ValueError
            _port(url, _PORT)
            if not _DATABASE.fullmatch(unquote(url.path)):  # of which it makes 0, or 01 of 0/1
                raise _UrlError("what follows the host is no number of a database")
    return ServerAddress(dict(parse_url(text)))


def _sentinel_address(url: SplitResult) -> SentinelAddress:
    master, _, database = url.path.strip("/").partition("/")
    if not master:
        raise _UrlError("it names no master; write redis+sentinel://host:26379,host2:26379/name-of-the-master")
    options = _options(url, database)
    of_sentinels = [name for name in options if name.startswith(_OF_SENTINELS)]
    login = {name.removeprefix(_OF_SENTINELS): options.pop(name) for name in of_sentinels}
    tls = {name: value for name, value in options.items() if name.startswith("ssl")}
    return SentinelAddress(_hosts(url, _SENTINEL_PORT), unquote(master), options, {**tls, **login})


def _cluster_address(url: SplitResult) -> ClusterAddress:
    if url.path.strip("/") not in ("", "0"):
        raise _UrlError("a cluster has the database 0 alone")
    return ClusterAddress(_hosts(url, _PORT), _options(url, ""))


def _options(url: SplitResult, database: str) -> dict[str, Any]:
    """As redis-py reads them, which knows URLs of one host."""
    login, has_login, _ = url.netloc.rpartition("@")
    options: dict[str, Any] = dict(parse_url(f"redis://{login}{has_login}host/{database}?{url.query}"))
    del options["host"]
    if database and not database.isdecimal():
        raise _UrlError("what follows the master's name is no number of a database")
    return {**options, "ssl": True} if url.scheme.startswith("rediss") else options


def _hosts(url: SplitResult, port: int) -> tuple[Host, ...]:
    hosts = [urlsplit(f"//{host}") for host in url.netloc.rpartition("@")[2].split(",")]
    if not all(each.hostname for each in hosts):
        raise _UrlError("it names no host, or leaves one out between two commas")
    return tuple((str(each.hostname), _port(each, port)) for each in hosts)


def _port(host: SplitResult, default: int) -> int:
    try:
        return host.port or default
    except ValueError:
        raise _UrlError(
            "its port is no number up to 65535; if what stands there is of the password, write / as %2F, # as %23 and "
            "? as %3F"
        ) from None


def _named(database: int | None) -> str:
    """As it stands in a URL; the one that is meant where none is named, is not."""
    return f"/{database}" if database else ""


def _listed(hosts: tuple[Host, ...]) -> str:
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
