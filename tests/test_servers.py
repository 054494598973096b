"""The servers that the other tests rely on answer, and keep each test's things apart."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.servers.databases import Databases, PostgresDatabases, query
from tests.servers.iotcore import IotcoreProcess
from tests.servers.kinds import BrokerServer, RedisServer, broker_kinds, redis_kind, sql_kinds
from tests.servers.mosquitto import MosquittoProcess
from tests.servers.mqtt_wire import accepts
from tests.servers.postgres import PostgresProcess
from tests.servers.process import free_port, is_alive
from tests.servers.redis import ValkeyProcess, delete_keys


async def test_redis_answers(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url) as redis:
        assert await redis.ping()


async def test_a_prefix_holds_only_its_own_keys(redis_url: str, redis_prefix: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert [key async for key in redis.scan_iter(match=f"*{redis_prefix}*")] == []
        await redis.set(f"{{emails}}:{redis_prefix}available", 1)
        assert len([key async for key in redis.scan_iter(match=f"*{redis_prefix}*")]) == 1


async def test_deleting_a_prefix_leaves_other_keys(redis_url: str, unique: str) -> None:
    other = f"other-{unique}"
    async with Redis.from_url(redis_url) as redis:
        await redis.mset({other: 1, f"{unique}:a": 1, f"{{emails}}:{unique}:b": 1})
        await delete_keys(redis_url, f"{unique}:")
        assert [key async for key in redis.scan_iter(match=f"*{unique}*")] == [other.encode()]
        await redis.delete(other)


async def test_a_database_is_empty_and_ones_own(sql_server: Databases, database_url: str) -> None:
    await query(database_url, "CREATE TABLE mine (id INTEGER PRIMARY KEY)", "INSERT INTO mine VALUES (1)")
    other = await sql_server.create()
    await query(other, "CREATE TABLE mine (id INTEGER PRIMARY KEY)")
    assert await query(other, "SELECT id FROM mine") == []
    await sql_server.drop(other)
    assert await query(database_url, "SELECT id FROM mine") == [(1,)]


async def test_a_copy_has_the_rows_and_goes_its_own_way(sql_server: Databases, database_url: str) -> None:
    await query(database_url, "CREATE TABLE mine (id INTEGER PRIMARY KEY)", "INSERT INTO mine VALUES (1)")
    copy = await sql_server.copy(database_url)
    assert await query(copy, "INSERT INTO mine VALUES (2)", "SELECT id FROM mine ORDER BY id") == [(1,), (2,)]
    assert await query(database_url, "SELECT id FROM mine") == [(1,)]
    await sql_server.drop(copy)


async def test_each_migrated_database_has_the_tables_and_no_rows(
    sql_server: Databases, migrated_database_url: str
) -> None:
    assert await query(migrated_database_url, "SELECT id FROM jobs") == []
    assert await query(migrated_database_url, "SELECT version_num FROM alembic_version") != []
    other = await sql_server.create_migrated()
    await query(migrated_database_url, "DROP TABLE failed_jobs")
    assert await query(other, "SELECT job_id FROM failed_jobs") == []
    await sql_server.drop(other)


async def test_only_databases_made_by_tests_can_be_dropped() -> None:
    with pytest.raises(AssertionError, match="customers was not made by a test"):
        await PostgresDatabases("postgresql://127.0.0.1").drop("postgresql://127.0.0.1/customers")


def test_the_broker_accepts_a_client(broker: BrokerServer, client_id: str) -> None:
    assert broker.accepts(client_id)


async def test_a_killed_redis_comes_back_with_what_it_answered(restartable_redis: ValkeyProcess) -> None:
    async with Redis.from_url(restartable_redis.url) as redis:
        await redis.set("kept", 1)
        restartable_redis.kill()
        with pytest.raises(RedisConnectionError):
            await redis.ping()
        restartable_redis.start()
        assert await redis.get("kept") == b"1"


async def test_a_killed_postgres_comes_back_with_what_it_committed(
    restartable_postgres: PostgresProcess,
) -> None:
    await query(restartable_postgres.url, "CREATE TABLE kept (id INTEGER)", "INSERT INTO kept VALUES (1)")
    members = psutil.Process(restartable_postgres.pid).children(recursive=True)
    restartable_postgres.kill()
    assert not [member for member in members if is_alive(member)]
    restartable_postgres.start()
    assert await query(restartable_postgres.url, "SELECT id FROM kept") == [(1,)]


def test_a_broker_restarts_on_its_port(restartable_broker: IotcoreProcess | MosquittoProcess) -> None:
    port = restartable_broker.port_311
    restartable_broker.stop()
    assert not accepts("127.0.0.1", port)
    restartable_broker.start()
    assert restartable_broker.port_311 == port
    assert accepts("127.0.0.1", port)


def test_a_frozen_server_answers_when_thawed(restartable_redis: ValkeyProcess) -> None:
    restartable_redis.freeze()
    assert psutil.Process(restartable_redis.pid).status() == psutil.STATUS_STOPPED
    assert not restartable_redis.is_ready()
    restartable_redis.thaw()
    assert restartable_redis.is_ready()


def test_a_server_that_cannot_start_says_why() -> None:
    class Wrong(ValkeyProcess):
        def command(self) -> list[str]:
            return [*super().command(), "--no-such-option", "1"]

    with pytest.raises(RuntimeError, match="no-such-option"):
        Wrong().start()


def test_servers_end_with_a_test_run_that_is_killed() -> None:
    program = (
        "from tests.servers.redis import ValkeyProcess\n"
        "server = ValkeyProcess().start()\n"
        "print(server.pid, server.directory, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        try:
            assert run.stdout
            pid, directory = run.stdout.readline().split()
            server = psutil.Process(int(pid))
        finally:
            run.kill()
    # Both are bounded by the test's own time limit.
    while is_alive(server) or Path(directory).exists():
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("variable", "kinds", "named"),
    [
        ("TEST_REDIS_URL", lambda: [redis_kind()], "named-redis"),
        ("TEST_POSTGRES_URL", sql_kinds, "named-postgres"),
        ("TEST_MYSQL_URL", sql_kinds, "named-mysql"),
        ("TEST_MQTT_URL", broker_kinds, "named-mqtt"),
    ],
)
def test_a_named_server_takes_the_place_of_its_kind(
    variable: str, kinds: Callable[[], list[object]], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert named not in kinds()
    before = len(kinds())
    monkeypatch.setenv(variable, "x://127.0.0.1")
    assert named in kinds()
    assert len(kinds()) <= before


def test_a_free_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given one begins to listen some time later."""
    given = {free_port() for _ in range(100)}
    assert len(given) == 100
    ports = "from tests.servers.process import free_port; print(*(free_port() for _ in range(100)))"
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    told: list[set[str]] = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        told.append(
            set(
                subprocess.run([sys.executable, "-c", ports], check=True, capture_output=True, text=True).stdout.split()
            )
        )
    assert len(told[0] | told[1]) == 200
