"""Redis Cluster: queues lie on different nodes, move from one to the other, and survive one's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from config.redis import RedisSettings
from core.errors import QueueUnavailableError, UnavailableError
from core.queue.driver import WakeUp
from core.queue.drivers.cluster_connection import ClusterConnection
from core.queue.drivers.durability import Durability, OnDisk, OnReplicas
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.redis_client import new_redis
from core.redis_manager import RedisManager
from core.redis_manager import redis_manager as door
from core.routing.sliding_window import RedisWindow
from tests.contract.jobs import LONG, QUEUE, eventually, ids, new_job, new_jobs
from tests.integration.redis.traffic import PATIENCE, traffic
from tests.servers.process import free_port
from tests.servers.redis import ValkeyProcess, client_of
from tests.servers.redis_cluster import NodeProcess, RedisCluster

QUEUES = ["a", "b", "c", "d"]
"""On three nodes."""


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def replicated() -> Iterator[RedisCluster]:
    with RedisCluster(replicas=1) as cluster:
        yield cluster


@asynccontextmanager
async def driver_of(cluster: RedisCluster, durability: Durability | None = None) -> AsyncIterator[RedisDriver]:
    driver = RedisDriver(client_of(cluster.url), MemoryFailureStore(), prefix="p:", durability=durability)
    try:
        yield driver
    finally:
        await driver.close()


def slot_of(queue: str) -> int:
    return key_slot(f"p:{{{queue}}}:jobs".encode())


def test_the_queues_of_these_tests_lie_on_all_nodes() -> None:
    assert {slot_of(queue) * 3 // 16384 for queue in QUEUES} == {0, 1, 2}


# ── a slot moves ─────────────────────────────────────────────────────────────────────────────────────────


def move_key_by_key(cluster: RedisCluster, queue: str) -> None:
    """As `redis-cli --cluster reshard` does it."""
    slot, giver = slot_of(queue), cluster.master_of(slot_of(queue))
    taker = next(node for node in cluster.masters if node is not giver)
    taker.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", giver.node_id)
    giver.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", taker.node_id)
    while keys := giver.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        giver.ask("MIGRATE", taker.host, taker.port, keys[0], 0, 5000)
    for node in (taker, giver, *cluster.masters):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", taker.node_id)


def move_at_once(cluster: RedisCluster, queue: str) -> None:
    """As Valkey 9 does it by itself."""
    slot, giver = slot_of(queue), cluster.master_of(slot_of(queue))
    taker = next(node for node in cluster.masters if node is not giver)
    giver.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", taker.node_id)
    while cluster.master_of(slot) is giver:
        pass


@pytest.mark.parametrize("move", [move_key_by_key, move_at_once])
async def test_nothing_is_lost_when_a_slot_moves(
    cluster: RedisCluster, move: Callable[[RedisCluster, str], None]
) -> None:
    async with driver_of(cluster) as driver, driver_of(cluster) as other, traffic(driver, other, QUEUES) as running:
        await running.goes_on()
        for queue in (*QUEUES, *QUEUES):
            await asyncio.to_thread(move, cluster, queue)
        await running.goes_on()
        await running.ends()


async def test_keys_that_are_at_their_new_node_already_are_asked_for_there(cluster: RedisCluster) -> None:
    """While the slot is still the old one's: ASK and ASKING."""
    async with driver_of(cluster) as driver:
        jobs = new_jobs(3)
        await driver.push(jobs)
        slot, giver = slot_of(QUEUE), cluster.master_of(slot_of(QUEUE))
        taker = next(node for node in cluster.masters if node is not giver)
        taker.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", giver.node_id)
        giver.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", taker.node_id)
        for key in giver.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            giver.ask("MIGRATE", taker.host, taker.port, key, 0, 5000)
        assert await driver._connection.ask("HLEN", f"p:{{{QUEUE}}}:jobs") == 3
        with pytest.raises(QueueUnavailableError, match="serves nobody for now"):  # of some of its keys there are none
            await driver.fetch([QUEUE], 10, LONG)
        for node in (taker, giver):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", taker.node_id)
        assert ids(await driver.fetch([QUEUE], 10, LONG)) == ids(jobs)


async def test_a_slot_that_has_moved_is_asked_for_at_the_wrong_node_once(cluster: RedisCluster) -> None:
    async with driver_of(cluster) as driver:
        await driver.push(new_jobs(3))
        giver = cluster.master_of(slot_of(QUEUE))
        move_key_by_key(cluster, QUEUE)
        giver.ask("CONFIG", "RESETSTAT")
        for _ in range(5):
            await driver.fetch([QUEUE], 1, LONG)
        assert giver.ask("INFO", "commandstats")["cmdstat_evalsha"]["rejected_calls"] == 1


# ── a node ends ──────────────────────────────────────────────────────────────────────────────────────────


async def test_work_goes_on_with_the_replica_of_a_node_that_is_gone(replicated: RedisCluster) -> None:
    async with (
        driver_of(replicated, OnReplicas(1)) as driver,
        driver_of(replicated) as other,
        traffic(driver, other, QUEUES) as running,
    ):
        await running.goes_on()
        gone = replicated.master_of(slot_of(QUEUES[0]))
        gone.kill()
        await _has_moved(replicated, gone)
        gone.start()  # as the replica that the one in its place waits for
        await running.goes_on()
        await running.ends()


async def _has_moved(cluster: RedisCluster, gone: NodeProcess) -> None:
    async def probe() -> bool:
        return cluster.master_of(slot_of(QUEUES[0])) is not gone

    await eventually(probe, within=PATIENCE)


async def test_queues_on_other_nodes_are_served_meanwhile(cluster: RedisCluster) -> None:
    async with driver_of(cluster) as driver:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        await driver.push([new_job(queue) for queue in QUEUES])
        gone = cluster.master_of(slot_of(QUEUES[0]))
        gone.kill()
        with pytest.raises(QueueUnavailableError):
            await driver.push([new_job(QUEUES[0])])
        for queue in QUEUES:
            if cluster.master_of(slot_of(queue)) is not gone:
                assert len(await driver.fetch([queue], 10, LONG)) == 1


async def test_a_node_that_comes_back_is_found(cluster: RedisCluster) -> None:
    async with driver_of(cluster) as driver:
        await driver.push([new_job()])
        gone = cluster.master_of(slot_of(QUEUE))
        gone.kill()
        with pytest.raises(QueueUnavailableError):
            await driver.push([new_job()])
        gone.start()
        await eventually(lambda: _pushes(driver, QUEUE), within=PATIENCE)


async def _pushes(driver: RedisDriver, queue: str) -> bool:
    try:
        await driver.push([new_job(queue)])
    except UnavailableError:
        return False
    return True


async def test_a_node_that_stands_still_is_left(replicated: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.drivers.redis.ANSWER_TIMEOUT", 2)
    async with driver_of(replicated) as driver:
        await driver.push([new_job()])
        gone = replicated.master_of(slot_of(QUEUE))
        gone.freeze()
        await eventually(lambda: _pushes(driver, QUEUE), within=PATIENCE)
        assert replicated.master_of(slot_of(QUEUE)) is not gone


async def test_connections_to_nodes_that_have_left_are_closed(replicated: RedisCluster) -> None:
    async with driver_of(replicated) as driver:
        for queue in QUEUES:
            await driver.push([new_job(queue)])
        connection = driver._connection
        assert isinstance(connection, ClusterConnection)
        gone = replicated.master_of(slot_of(QUEUES[0]))
        node_id = gone.node_id
        gone.kill()
        await _has_moved(replicated, gone)
        for node in replicated.nodes:
            if node.is_running:
                node.ask("CLUSTER", "FORGET", node_id)
        await eventually(lambda: _pushes(driver, QUEUES[0]), within=PATIENCE)
        assert f"{gone.host}:{gone.port}" not in connection._nodes


async def test_the_wake_up_hears_of_every_node_and_goes_on_when_its_own_is_gone(replicated: RedisCluster) -> None:
    async with driver_of(replicated) as driver, driver_of(replicated) as other:
        wake_up = driver.wake_up(QUEUES)
        await _quiet(wake_up)
        await _hears_each(wake_up, other)
        (listened_at,) = [node for node in replicated.nodes if node.ask("PUBSUB", "CHANNELS")]
        listened_at.kill()
        assert await wake_up.wait(PATIENCE)  # it listens elsewhere
        await eventually(lambda: _push_each(other), within=PATIENCE)
        await _quiet(wake_up)
        await _hears_each(wake_up, other)
        await wake_up.close()


async def _quiet(wake_up: WakeUp) -> None:
    while await wake_up.wait(0.2):
        pass


async def _push_each(driver: RedisDriver) -> bool:
    return all([await _pushes(driver, queue) for queue in QUEUES])


async def _hears_each(wake_up: WakeUp, driver: RedisDriver) -> None:
    """Of each queue, once it is empty."""
    for queue in QUEUES:
        await driver.clear(queue)
        await driver.push([new_job(queue)])
        assert await wake_up.wait(PATIENCE)


# ── the other ways in ────────────────────────────────────────────────────────────────────────────────────


async def test_the_door_for_users_code(cluster: RedisCluster) -> None:
    few = RedisSettings.model_validate({"url": cluster.url, "max_connections": 4})
    manager, client = RedisManager(), new_redis(few, decode_responses=True)
    manager.bind(client, "p:")
    for number in range(20):
        await manager.set_json(manager.key(f"{number}"), number, ttl=60)
    assert [await manager.get_json(manager.key(f"{number}")) for number in range(20)] == list(range(20))
    assert sorted(await asyncio.gather(*(manager.incr("count") for _ in range(200)))) == list(range(1, 201))
    assert await manager.delete(*(manager.key(f"{number}") for number in range(30))) == 20
    assert await manager.hset("hash", "a", 1) and await manager.hget("hash", "a") == "1"
    await client.aclose()


async def test_a_rate_limit_is_counted_for_all_processes(cluster: RedisCluster) -> None:
    clients = [client_of(cluster.url) for _ in range(2)]
    taken = []
    for client in clients:
        door.bind(client, "p:")
        taken += [await RedisWindow(5, 60).take("pump-7") for _ in range(4)]
        door.unbind(client, "p:")
        await client.aclose()
    assert [wait == 0 for wait in taken] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("end", [NodeProcess.kill, NodeProcess.freeze])
async def test_the_door_for_users_code_finds_the_replica_of_a_node_that_is_gone(
    replicated: RedisCluster, end: Callable[[NodeProcess], None]
) -> None:
    manager, client = RedisManager(), client_of(replicated.url)
    manager.bind(client, "p:")
    await manager.set("p:{a}", "1")
    gone = replicated.master_of(slot_of("a"))
    end(gone)

    async def probe() -> bool:
        try:
            await manager.set("p:{a}", "2")
        except UnavailableError:
            return False
        return True

    await eventually(probe, within=PATIENCE)
    await client.aclose()


async def test_fsync_is_asked_of_each_node_that_was_written_to() -> None:
    with RedisCluster(append_only=True) as cluster:
        async with driver_of(cluster, OnDisk()) as driver:
            await driver.ping()
            for node in cluster.nodes:
                node.ask("CONFIG", "RESETSTAT")
            await driver.push([new_job(queue) for queue in QUEUES])
        for node in cluster.nodes:
            assert node.ask("INFO", "commandstats")["cmdstat_waitaof"]["calls"] == 1


async def test_a_cluster_that_is_not_there_is_named() -> None:
    port = free_port()
    client = client_of(f"redis+cluster://127.0.0.1:{port}")
    driver = RedisDriver(client, MemoryFailureStore())
    for use in (lambda: driver.push([new_job()]), driver.ping, driver.queues):
        with pytest.raises(UnavailableError, match=rf"Redis at 127\.0\.0\.1:{port} \(a cluster\) gave no answer"):
            await use()
    await driver.close()


async def test_a_cluster_whose_url_says_nothing_of_that_is_told_of(cluster: RedisCluster) -> None:
    driver = RedisDriver(client_of(cluster.masters[0].url), MemoryFailureStore(), prefix="p:")
    with pytest.raises(QueueUnavailableError, match=r"is a node of a cluster.*Write redis\+cluster:// in REDIS_URL"):
        await driver.push([new_job(queue) for queue in QUEUES])
    await driver.close()


async def test_a_server_that_is_no_cluster_is_told_of() -> None:
    with ValkeyProcess() as server:
        driver = RedisDriver(client_of(f"redis+cluster://127.0.0.1:{server.port}"), MemoryFailureStore())
        with pytest.raises(UnavailableError, match="Cluster mode is not enabled"):
            await driver.push([new_job()])
        await driver.close()
