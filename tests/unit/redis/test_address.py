"""REDIS_URL in all its forms."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from core.redis.address import ClusterAddress, RedisAddress, SentinelAddress, ServerAddress, read_url


@pytest.mark.parametrize(
    ("url", "options", "shown"),
    [
        ("redis://", {}, "localhost:6379"),
        ("redis://here:7000/2", {"host": "here", "port": 7000, "db": 2}, "here:7000/2"),
        ("redis://here/0", {"host": "here", "db": 0}, "here:6379"),
        ("redis://here/2/", {"host": "here", "db": 2}, "here:6379/2"),
        ("redis://here/%32", {"host": "here", "db": 2}, "here:6379/2"),
        (" redis://here/2 ", {"host": "here", "db": 2}, "here:6379/2"),
        ("redis://u:p%40@here", {"host": "here", "username": "u", "password": "p@"}, "here:6379"),
        ("redis://here?socket_timeout=2", {"host": "here", "socket_timeout": 2.0}, "here:6379"),
        ("rediss://here", {"host": "here", "connection_class": SSLConnection}, "here:6379"),
    ],
)
def test_one_server(url: str, options: dict[str, Any], shown: str) -> None:
    address = read_url(url)
    assert address == ServerAddress(options)
    assert str(address) == shown


def test_a_socket() -> None:
    assert str(read_url("unix:///run/redis.sock")) == "/run/redis.sock"
    assert str(read_url("unix://u:hush@/run/redis.sock?db=1")) == "/run/redis.sock?db=1"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis+sentinel://a/jobs", SentinelAddress((("a", 26379),), "jobs", {}, {})),
        (
            "redis+sentinel://u:p@a:1,[::1]:2,b/jobs/3",
            SentinelAddress(
                (("a", 1), ("::1", 2), ("b", 26379)), "jobs", {"username": "u", "password": "p", "db": 3}, {}
            ),
        ),
        (
            "redis+sentinel://:p@a/jobs?sentinel_username=s&sentinel_password=q%26&socket_read_size=1",
            SentinelAddress(
                (("a", 26379),),
                "jobs",
                {"password": "p", "socket_read_size": 1},
                {"username": "s", "password": "q&"},
            ),
        ),
        (
            "rediss+sentinel://a/my%20jobs?ssl_ca_certs=/ca.pem",
            SentinelAddress(
                (("a", 26379),),
                "my jobs",
                {"ssl": True, "ssl_ca_certs": "/ca.pem"},
                {"ssl": True, "ssl_ca_certs": "/ca.pem"},
            ),
        ),
    ],
)
def test_a_master_that_sentinels_name(url: str, address: RedisAddress) -> None:
    assert read_url(url) == address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis+cluster://a", ClusterAddress((("a", 6379),), {})),
        ("redis+cluster://u:p@a:1,b:2/0", ClusterAddress((("a", 1), ("b", 2)), {"username": "u", "password": "p"})),
        (
            "rediss+cluster://a?ssl_check_hostname=false",
            ClusterAddress((("a", 6379),), {"ssl": True, "ssl_check_hostname": False}),
        ),
    ],
)
def test_a_cluster(url: str, address: RedisAddress) -> None:
    assert read_url(url) == address


def test_messages_name_all_hosts_and_the_database_and_no_password() -> None:
    assert str(read_url("redis://u:hush@a:1/2")) == "a:1/2"
    assert str(read_url("redis+sentinel://u:hush@a:1/jobs/3?sentinel_password=hush")) == "jobs/3 (by Sentinel at a:1)"
    assert str(read_url("redis+sentinel://u:hush@a:1,[::1]:2/jobs")) == "jobs (by Sentinel at a:1, [::1]:2)"
    assert str(read_url("redis+cluster://u:hush@a:1,b")) == "a:1, b:6379 (a cluster)"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("a:6379", "it is no URL that begins with"),
        ("http://a", "it is no URL that begins with"),
        ("redis+proxy://a", "it is no URL that begins with"),
        ("redis:a:7000", "it is no URL that begins with"),
        ("redis:/a", "it is no URL that begins with"),
        ("rediss:a", "it is no URL that begins with"),
        ("redis://a:port", "its port is no number up to 65535"),
        ("redis://a:70000", "its port is no number up to 65535"),
        ("redis://u:a/b@c", "its port is no number up to 65535; if what stands there is of the password"),
        ("redis+sentinel://a:port/jobs", "its port is no number up to 65535"),
        ("redis+cluster://a:port", "its port is no number up to 65535"),
        ("redis://a/x", "what follows the host is no number of a database"),
        ("redis://a/0/1", "what follows the host is no number of a database"),
        ("redis://a/-1", "what follows the host is no number of a database"),
        ("redis+sentinel://a", "it names no master; write redis+sentinel://"),
        ("redis+sentinel://a/", "it names no master; write redis+sentinel://"),
        ("redis+sentinel://a/jobs/x", "what follows the master's name is no number of a database"),
        ("redis+sentinel://a/jobs/0/1", "what follows the master's name is no number of a database"),
        ("redis+sentinel:///jobs", "it names no host"),
        ("redis+sentinel://a,,b/jobs", "it names no host, or leaves one out between two commas"),
        ("redis+cluster://", "it names no host"),
        ("redis+cluster://a/3", "a cluster has the database 0 alone"),
    ],
)
def test_what_is_no_address_says_why(url: str, why: str) -> None:
    with pytest.raises(ValueError, match="^" + why.replace("+", r"\+")):
        read_url(url)
