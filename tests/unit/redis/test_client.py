"""The clients that REDIS_URL makes: what they are given for their connections, and what is said where one is away."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection
from redis.exceptions import MovedError, OutOfMemoryError

from config.redis import RedisSettings
from core.errors import UnavailableError
from core.redis.cluster import Cluster
from core.redis.sentinel import MasterPool
from core.redis_client import ClosedError, RedisClient, address_of, new_redis, raise_explained


def client_of(url: str) -> RedisClient:
    return new_redis(RedisSettings.model_validate({"url": url, "max_connections": 7}))


def test_one_server() -> None:
    client = client_of("rediss://u:p@here:7000/2")
    assert isinstance(client, Redis) and isinstance(client.connection_pool, BlockingConnectionPool)
    pool = client.connection_pool
    assert pool.connection_class is SSLConnection and pool.max_connections == 7
    assert {"host": "here", "port": 7000, "db": 2, "password": "p"}.items() <= pool.connection_kwargs.items()
    assert str(address_of(client)) == "here:7000/2"


def test_a_master_that_sentinels_name() -> None:
    client = client_of("rediss+sentinel://u:p@a,b/jobs/2?sentinel_password=q&ssl_ca_certs=/ca.pem")
    assert isinstance(client, Redis) and isinstance(client.connection_pool, MasterPool)
    pool = client.connection_pool
    assert pool.connection_class is SentinelManagedSSLConnection and pool.max_connections == 7
    login = {"username": "u", "password": "p", "db": 2, "ssl_ca_certs": "/ca.pem"}
    assert login.items() <= pool.connection_kwargs.items()
    asked: list[Any] = [each.connection_pool for each in pool.sentinels._sentinels]
    assert [each.connection_class for each in asked] == [SSLConnection] * 2
    assert [each.connection_kwargs["password"] for each in asked] == ["q"] * 2
    assert [each.connection_kwargs["ssl_ca_certs"] for each in asked] == ["/ca.pem"] * 2
    assert str(address_of(client)) == "jobs/2 (by Sentinel at a:26379, b:26379)"


def test_a_cluster() -> None:
    client = client_of("rediss+cluster://u:p@a:1,b:2")
    assert isinstance(client, Cluster)
    assert {"max_connections": 7, "password": "p", "connection_class": SSLConnection}.items() <= (
        client.get_connection_kwargs().items()
    )
    assert [(node.host, node.port) for node in client.startup_nodes] == [("a", 1), ("b", 2)]
    assert str(address_of(client)) == "a:1, b:2 (a cluster)"


def test_of_a_connection_that_this_process_closed_the_reason_is_told_and_no_remedy() -> None:
    with pytest.raises(UnavailableError) as caught:
        raise_explained(ClosedError("the node has left the cluster"), client_of("redis+cluster://a"))
    assert str(caught.value) == "Redis at a:6379 (a cluster) gave no answer: the node has left the cluster."
    assert caught.value.server == "Redis at a:6379 (a cluster)"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutOfMemoryError("full"), "serves nobody for now: full"),
        (MovedError("7 b:6379"), "is a node of a cluster"),
        (TimeoutError(), "gave no answer within"),
    ],
)
def test_what_is_waited_for_names_the_server(error: Exception, said: str) -> None:
    """In the same words, whatever has happened to it: by them, those that wait for one server know each other."""
    with pytest.raises(UnavailableError, match=said) as caught:
        raise_explained(error, client_of("redis://u:hush@a/1"))
    assert caught.value.server == "Redis at a:6379/1"
