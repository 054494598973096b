"""QUEUE_REDIS_DURABILITY: a push returns once its jobs are on the server's disk, or on its replicas, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from core.application import Application
from core.errors import QueueUnavailableError, SettingError
from core.job import Job
from core.queue.driver import FailureStore
from core.queue.drivers.durability import OnDisk, read_durability
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.queue.queue_manager import dispatch, queue
from core.settings import load_settings
from tests.contract.jobs import LONG, QUEUE, eventually, failed, ids, leases, new_job, new_jobs
from tests.integration.redis.traffic import PATIENCE
from tests.servers.redis import RedisProcess, ValkeyProcess, client_of
from tests.servers.redis_replicas import ReplicatedRedis

APPEND_ONLY = ("--appendonly", "yes", "--appendfsync")


@asynccontextmanager
async def driver_of(url: str, durability: str, failures: FailureStore | None = None) -> AsyncIterator[RedisDriver]:
    driver = RedisDriver(client_of(url), failures or MemoryFailureStore(), durability=read_durability(durability))
    try:
        yield driver
    finally:
        await driver.close()


@pytest.fixture
def syncing() -> Iterator[ValkeyProcess]:
    """What it answers is on its disk."""
    with ValkeyProcess(None, *APPEND_ONLY, "always") as server:
        yield server


@pytest.fixture
def replicated() -> Iterator[ReplicatedRedis]:
    with ReplicatedRedis() as redis:
        yield redis


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.drivers.confirmed_writes.CONFIRMED_WITHIN", 0.2)


async def waits(client: Redis) -> None:
    """Until somebody waits for a confirmation."""

    async def probe() -> bool:
        return int((await client.info("clients"))["blocked_clients"]) > 0

    await eventually(probe)


@asynccontextmanager
async def without_syncs(server: ValkeyProcess) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url) as client:
        await client.config_set("appendfsync", "no")  # and so, it confirms nothing
        yield client
        await client.config_set("appendfsync", "always")


# ── fsync ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_returns_once_it_is_on_the_disk(syncing: ValkeyProcess) -> None:
    async with driver_of(syncing.url, "fsync") as driver:
        await driver.push([new_job()])
        async with without_syncs(syncing) as client:
            pushing = asyncio.create_task(driver.push([new_job()]))
            await waits(client)
            assert await driver.size(QUEUE) == 2
            assert not pushing.done()
        await pushing


async def test_while_a_push_waits_for_the_disk_a_worker_goes_on(syncing: ValkeyProcess) -> None:
    async with driver_of(syncing.url, "fsync") as driver:
        await driver.push([new_job()])
        async with without_syncs(syncing) as client:
            pushing = asyncio.create_task(driver.push([new_job()]))
            await waits(client)
            fetched = await driver.fetch([QUEUE], 2, LONG)
            assert len(fetched) == 2
            assert await driver.complete(leases(fetched)) == set()
            assert not pushing.done()
        await pushing


@pytest.mark.usefixtures("impatient")
async def test_a_push_that_is_not_confirmed_in_time_is_an_outage_that_says_what_is_missing(
    syncing: ValkeyProcess,
) -> None:
    async with driver_of(syncing.url, "fsync") as driver:
        await driver.ping()
        async with without_syncs(syncing):
            with pytest.raises(QueueUnavailableError, match=r"after 0\.2 s, its disk does not have it\. See what"):
                await driver.push([new_job()])


async def test_a_repeated_push_is_confirmed_although_it_changes_nothing(
    syncing: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a connection that has written nothing, the server would say at once that all of it is on the disk."""
    job = new_job()
    async with driver_of(syncing.url, "fsync") as driver, driver_of(syncing.url, "fsync") as other:
        await other.ping()
        await driver.ping()
        async with without_syncs(syncing) as client:
            with monkeypatch.context() as shortly:
                shortly.setattr("core.queue.drivers.confirmed_writes.CONFIRMED_WITHIN", 0.05)
                with pytest.raises(QueueUnavailableError):
                    await driver.push([job])
            repeating = asyncio.create_task(other.push([job]))
            await waits(client)
            assert not repeating.done()
        await repeating
        assert await driver.size(QUEUE) == 1


async def test_a_push_into_many_queues_waits_for_the_disk_once(syncing: ValkeyProcess) -> None:
    async with driver_of(syncing.url, "fsync") as driver, Redis.from_url(syncing.url) as client:
        await driver.ping()
        await client.config_resetstat()
        await driver.push([new_job(queue) for queue in "abcdef"])
        assert (await client.info("commandstats"))["cmdstat_waitaof"]["calls"] == 1


async def test_what_was_pushed_survives_the_end_of_the_server(syncing: ValkeyProcess) -> None:
    jobs = new_jobs(100)
    async with driver_of(syncing.url, "fsync") as driver:
        await driver.push(jobs)
        syncing.kill()
        syncing.start()
        assert ids(await driver.fetch([QUEUE], 200, LONG)) == ids(jobs)


async def test_a_script_that_the_server_does_not_know_yet_is_confirmed_as_well(syncing: ValkeyProcess) -> None:
    async with driver_of(syncing.url, "fsync") as driver:
        await driver.push([new_job()])
        async with without_syncs(syncing) as client:
            await client.script_flush()
            pushing = asyncio.create_task(driver.push([new_job()]))
            await waits(client)
            assert not pushing.done()
        await pushing
        assert await driver.size(QUEUE) == 2


async def test_with_memory_nothing_is_waited_for(syncing: ValkeyProcess) -> None:
    async with driver_of(syncing.url, "memory") as driver, without_syncs(syncing) as client:
        await driver.push([new_job()])
        assert "cmdstat_waitaof" not in await client.info("commandstats")


class Note(Job):
    text: str = ""


async def test_a_dispatch_waits_for_what_the_setting_says(syncing: ValkeyProcess) -> None:
    where = {"connection": "redis", "redis_durability": "fsync"}
    async with Application(load_settings(None, queue=where, redis={"url": syncing.url})):
        await dispatch(Note(text="a"))
        async with without_syncs(syncing) as client:
            dispatching = asyncio.create_task(dispatch(Note(text="b")))
            await waits(client)
            assert await queue.size() == 2
            assert not dispatching.done()
        await dispatching


# ── put back by hand ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_row_of_a_failed_job_stays_until_the_job_is_back_for_good(
    syncing: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = MemoryFailureStore()
    async with driver_of(syncing.url, "fsync", failures) as driver:
        (job_id,) = await failed(driver, 1)
        with monkeypatch.context() as shortly:
            shortly.setattr("core.queue.drivers.confirmed_writes.CONFIRMED_WITHIN", 0.05)
            async with without_syncs(syncing):
                with pytest.raises(QueueUnavailableError):
                    await driver.retry_failed(await failures.rows())
                assert ids(await failures.rows()) == [job_id]
        assert await driver.retry_failed(await failures.rows()) == 1
        assert await failures.rows() == []
        assert ids(await driver.fetch([QUEUE], 2, LONG)) == [job_id]


# ── replicas ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_returns_once_a_replica_has_it(replicated: ReplicatedRedis) -> None:
    master, replica = replicated.nodes
    async with driver_of(master.url, "replicas:1") as driver, Redis.from_url(master.url) as client:
        await driver.push([new_job()])
        replica.freeze()
        pushing = asyncio.create_task(driver.push([new_job()]))
        await waits(client)
        assert await driver.size(QUEUE) == 2
        assert not pushing.done()
        replica.thaw()
        await pushing


@pytest.mark.usefixtures("impatient")
async def test_the_replicas_that_have_confirmed_are_counted(replicated: ReplicatedRedis) -> None:
    master, replica = replicated.nodes
    async with driver_of(master.url, "replicas:1") as driver:
        await driver.ping()
        replica.freeze()
        with pytest.raises(
            QueueUnavailableError, match=r"after 0\.2 s, 0 of 1 replicas have it\. See that they are"
        ) as lacking:
            await driver.push([new_job()])
        assert lacking.value.server == f"Redis at 127.0.0.1:{master.port}"
        replica.thaw()


async def test_a_replica_that_takes_the_place_of_its_master_has_all_that_was_pushed(
    replicated: ReplicatedRedis,
) -> None:
    master, replica = replicated.nodes
    pushed: list[str] = []

    async def push(driver: RedisDriver) -> None:
        while True:
            jobs = new_jobs(20)
            await driver.push(jobs)
            pushed.extend(ids(jobs))

    async def has_pushed(count: int) -> bool:
        return len(pushed) >= count

    async with driver_of(master.url, "replicas:1") as driver:
        pushing = asyncio.create_task(push(driver))
        await eventually(lambda: has_pushed(500), within=PATIENCE)
        master.kill()
        with pytest.raises(QueueUnavailableError):
            await pushing
    async with driver_of(replica.url, "memory") as driver, Redis.from_url(replica.url) as client:
        await client.replicaof("NO", "ONE")
        assert set(pushed) <= set(ids(await driver.fetch([QUEUE], len(pushed) + 100, LONG)))


async def test_a_server_that_lacks_replicas_is_waited_for_before_anything_is_pushed() -> None:
    with ValkeyProcess(None, "--repl-diskless-sync-delay", "0") as server:
        async with driver_of(server.url, "replicas:1") as driver:
            for use in (driver.ping, lambda: driver.push([new_job()])):
                with pytest.raises(QueueUnavailableError, match="0 of 1 replicas") as lacking:
                    await use()
                assert f"Redis at 127.0.0.1:{server.port} was given no job" in str(lacking.value)
                assert lacking.value.server == f"Redis at 127.0.0.1:{server.port}"
            assert await driver.size(QUEUE) == 0
            with ValkeyProcess(None, "--replicaof", f"127.0.0.1 {server.port}"):
                await eventually(lambda: _answers(driver))
                await driver.push([new_job()])


async def _answers(driver: RedisDriver) -> bool:
    try:
        await driver.ping()
    except QueueUnavailableError:
        return False
    return True


async def test_a_master_that_becomes_a_replica_is_an_outage(replicated: ReplicatedRedis) -> None:
    master, replica = replicated.nodes
    async with driver_of(master.url, "replicas:1") as driver, Redis.from_url(master.url) as client:
        await driver.push([new_job()])
        replica.freeze()
        pushing = asyncio.create_task(driver.push([new_job()]))
        await waits(client)
        await client.replicaof("127.0.0.1", replica.port)
        with pytest.raises(QueueUnavailableError):
            await pushing
        with pytest.raises(QueueUnavailableError):
            await driver.push([new_job()])
        replica.thaw()


# ── servers that cannot ──────────────────────────────────────────────────────────────────────────────────


async def refusal(server: RedisProcess, durability: str = "fsync") -> str:
    """What a driver says that is told to be durable there; it has pushed nothing."""
    async with driver_of(server.url, durability) as driver:
        with pytest.raises(SettingError) as refused:
            await driver.push([new_job()])
        with pytest.raises(SettingError):
            await driver.ping()
        assert await driver.size(QUEUE) == 0
        return str(refused.value)


async def test_a_server_without_an_append_only_file_is_refused() -> None:
    with ValkeyProcess() as server:
        said = await refusal(server)
    assert "QUEUE_REDIS_DURABILITY='fsync' is not usable" in said and f"127.0.0.1:{server.port}" in said
    assert "appendonly" in said and "set `replicas:N` or `memory`" in said


async def test_a_server_that_leaves_the_disk_to_the_operating_system_is_refused() -> None:
    with ValkeyProcess(None, *APPEND_ONLY, "no") as server:
        assert "appendfsync no" in await refusal(server)


async def test_a_server_that_speaks_of_its_disk_too_early_is_refused() -> None:
    """Valkey says of what was written within the last second that it is on the disk."""
    with ValkeyProcess(None, *APPEND_ONLY, "everysec") as server:
        assert "has `appendfsync everysec`, and is not Redis 8" in await refusal(server)
        async with Redis.from_url(server.url) as client:
            await client.acl_setuser("default", commands=["+@all", "-config"], enabled=True)
        assert "a hidden appendfsync" in await refusal(server)


@pytest.mark.parametrize(("version", "policy"), [("8.2.3", "everysec"), ("8.0.0", None), ("7.2.4", "always")])
async def test_a_server_that_tells_the_truth_is_not_refused(version: str, policy: str | None) -> None:
    async def ask(*command: object) -> object:
        if command[0] == "INFO":
            return f"# Server\r\nredis_version:{version}\r\n".encode()
        if policy is None:
            raise NoPermissionError
        return [b"appendfsync", policy.encode()]

    assert await OnDisk().fault(ask) is None


@pytest.mark.skipif(RedisProcess.program is None, reason="redis-server is not on PATH")
async def test_a_server_that_cannot_wait_for_its_disk_is_refused() -> None:
    with RedisProcess(None, *APPEND_ONLY, "always") as server:
        async with Redis.from_url(server.url) as client:
            if int((await client.info("server"))["redis_version"].split(".")[0]) > 7:
                pytest.skip("this one can")
        assert "It takes Redis 7.2 or Valkey" in await refusal(server)


@pytest.mark.parametrize(("durability", "command"), [("fsync", "waitaof"), ("replicas:1", "wait")])
async def test_a_server_that_does_not_let_us_is_refused(durability: str, command: str) -> None:
    with ValkeyProcess(None, *APPEND_ONLY, "always") as server:
        async with Redis.from_url(server.url) as client:
            await client.acl_setuser("default", commands=["+@all", f"-{command}"], enabled=True)
        assert f"no permissions to run the '{command}' command" in await refusal(server, durability)
