"""What is Redis's own: where keys lie, what is left behind, and a failed_jobs table in another store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from core.database.engine import Database
from core.database.migrations import upgrade
from core.errors import PayloadTooLargeError, QueueUnavailableError
from core.queue.driver import Driver, FailureStore
from core.queue.drivers.memory import MemoryFailureStore
from core.queue.drivers.redis import RedisDriver
from core.queue.failures import DatabaseFailureStore
from core.queue.state import FailedJob, Failure, NewJob, Retry
from tests.chaos.proxy import Proxy
from tests.contract.cost import redis_commands
from tests.contract.jobs import (
    LONG,
    QUEUE,
    SHORT,
    VERBS,
    are_keys_of_their_own,
    eventually,
    failed,
    failure,
    ids,
    leases,
    new_job,
    new_jobs,
    new_line,
    pushed_and_fetched,
    rescued,
    run_out,
    staged,
    states,
    states_after,
)
from tests.servers.redis import ValkeyProcess

Confirm = Callable[[], Awaitable[None]] | None

KEY = "pump-7"


class Died(BaseException):
    """Stands for the end of the process."""


class BrittleFailureStore(MemoryFailureStore):
    """Ends the process at a chosen moment, once."""

    dies: str | None = None

    async def record(self, connection: str, failures: Sequence[Failure], *, confirm: Confirm = None) -> None:
        self._die_at("before the row is written")
        await super().record(connection, failures, confirm=confirm)
        self._die_at("after the row was written")

    @asynccontextmanager
    async def take(self, job_ids: Sequence[str]) -> AsyncIterator[list[FailedJob]]:
        async with super().take(job_ids) as rows:
            self._die_at("before the job is back")
            yield rows
            self._die_at("before the row is removed")
        self._die_at("after the row was removed")

    def _die_at(self, moment: str) -> None:
        if self.dies == moment:
            self.dies = None
            raise Died(moment)


class AbsentFailureStore(MemoryFailureStore):
    """A database that cannot be reached, while `absent`."""

    absent = True

    async def record(self, connection: str, failures: Sequence[Failure], *, confirm: Confirm = None) -> None:
        if self.absent:
            raise QueueUnavailableError("the database is away")
        await super().record(connection, failures, confirm=confirm)


class SilentFailureStore(MemoryFailureStore):
    """A database that gives no answer, until `answers`."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def record(self, connection: str, failures: Sequence[Failure], *, confirm: Confirm = None) -> None:
        await self.answers.wait()
        await super().record(connection, failures, confirm=confirm)


class PickyFailureStore(MemoryFailureStore):
    """Refuses whatever holds one job."""

    refused: str | None = None

    async def record(self, connection: str, failures: Sequence[Failure], *, confirm: Confirm = None) -> None:
        if self.refused in ids(failures):
            raise PayloadTooLargeError("too large")
        await super().record(connection, failures, confirm=confirm)


class LateFailureStore(DatabaseFailureStore):
    """Another process's way to the same table, on which a write is held up until `goes_on`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_late = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def record(self, connection: str, failures: Sequence[Failure], *, confirm: Confirm = None) -> None:
        self.is_late.set()
        await self.goes_on.wait()
        await super().record(connection, failures, confirm=confirm)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def _driver(client: Redis, prefix: str, failures: FailureStore | None = None) -> RedisDriver:
    return RedisDriver(client, failures or MemoryFailureStore(), prefix=prefix)


async def _keys(client: Redis, prefix: str) -> set[str]:
    return {key.decode() async for key in client.scan_iter(match=f"*{prefix}*", count=1000)}


async def _exercise(driver: Driver, queue: str) -> None:
    """Bring every state about, and jobs with keys: 1 failed, 2 executing, 4 available, 4 scheduled, 1 retryable."""
    await failed(driver, 2, queue)
    await driver.retry_failed((await driver.failures.rows(queue=queue))[:1])
    (lost,) = await driver.fetch([queue], 1, SHORT)
    await rescued(driver, 1, queue)
    await driver.complete([lost.lease])
    (job,) = await driver.fetch([queue], 1, LONG)
    await driver.retry([Retry(job.lease, LONG)])
    await pushed_and_fetched(driver, 2, queue=queue)
    await driver.push([*new_jobs(3, queue), new_job(queue, delay=LONG)])
    line = [new_job(queue, ordering_key=KEY, unique_key=f"{{{number}}}") for number in range(4)]
    await driver.push([*line, new_job(queue, ordering_key=KEY), new_job(queue, unique_key="{0}")])


@pytest.mark.parametrize("queue", [QUEUE, "two words", "{curly}", "}{", "{}", "a}b", "日本"])
async def test_every_key_of_a_queue_lies_on_its_slot(client: Redis, redis_prefix: str, queue: str) -> None:
    driver = _driver(client, redis_prefix)
    await driver.ping()
    before = await _keys(client, redis_prefix)
    await _exercise(driver, queue)
    of_the_queue = {key for key in await _keys(client, redis_prefix) - before if "{" in key}
    assert len(of_the_queue) >= 4
    assert len({key_slot(key.encode()) for key in of_the_queue}) == 1


async def test_every_key_begins_with_the_prefix(client: Redis, redis_prefix: str) -> None:
    await _exercise(_driver(client, redis_prefix), QUEUE)
    keys = await _keys(client, redis_prefix)
    assert all(key.startswith(redis_prefix) for key in keys)
    assert {key for key in keys if f"{{{QUEUE}}}" not in key} == {f"{redis_prefix}queues"}


async def test_prefixes_keep_applications_apart(client: Redis, redis_prefix: str) -> None:
    one, another = _driver(client, f"{redis_prefix}one:"), _driver(client, f"{redis_prefix}another:")
    await one.push([new_job()])
    assert await another.fetch([QUEUE], 1, LONG) == []
    assert await another.queues() == []
    assert len(await one.fetch([QUEUE], 1, LONG)) == 1


@pytest.mark.parametrize("end", ["complete", "fail", "clear"])
async def test_of_jobs_with_keys_no_key_is_left_but_the_windows_that_are_not_over(
    client: Redis, redis_prefix: str, end: str
) -> None:
    driver = _driver(client, redis_prefix)
    await driver.push([new_job(ordering_key=KEY, unique_key="over", unique_for=SHORT), *new_line(2, KEY)])
    await driver.push([new_job(ordering_key="another", unique_key="lasts", delay=SHORT), *new_jobs(2)])
    await staged(driver, 4)
    for _ in range(3):
        held = leases(await driver.fetch([QUEUE], 10, LONG))
        if end == "clear":
            await driver.release(held)
            await driver.clear(QUEUE)
        else:
            await VERBS[end](driver, held)
    window = driver._scripts.key(QUEUE, "unique:lasts")
    assert 0 < await client.pttl(window) <= LONG * 1000

    async def is_over() -> bool:
        return await _keys(client, redis_prefix) == {f"{redis_prefix}queues", window}

    await eventually(is_over)


async def test_a_turn_that_an_earlier_worker_has_kept_is_handed_on_by_the_rescuer(
    client: Redis, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queue.drivers.redis._LOOK_EVERY", 0)
    driver = _driver(client, redis_prefix)
    line = new_line(3, KEY)
    await driver.push(line)
    (first,) = await driver.fetch([QUEUE], 10, LONG)
    for name, remove in (("jobs", client.hdel), ("executing", client.zrem), ("tries", client.hdel)):
        await remove(driver._scripts.key(QUEUE, name), first.job_id)  # as a worker does that knows no turns
    assert await driver.fetch([QUEUE], 10, LONG) == []
    await driver.rescue([QUEUE])
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == ids(line[1:2])
    await driver.close()


async def test_a_full_memory_does_not_keep_lost_fetches_from_being_taken_up(restartable_redis: ValkeyProcess) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        fetched = await pushed_and_fetched(driver, 3)
        driver._lost_fetches.add(QUEUE, [fetched[0].token])
        await client.config_set("maxmemory", 1)
        assert ids(await driver.fetch([QUEUE], 10, LONG)) == ids(fetched)
        await driver.close()


@pytest.mark.parametrize(("one", "another"), [("a\0", "a"), ("a\0b", "a"), ("", "%"), ("%00", "\0")])
async def test_keys_that_a_script_might_take_for_each_other_are_keys_of_their_own(
    client: Redis, redis_prefix: str, one: str, another: str
) -> None:
    driver = _driver(client, redis_prefix)
    assert await driver.push([new_job(unique_key=one), new_job(unique_key=another)]) == {}
    await are_keys_of_their_own(driver, one, another, "ordered")
    await are_keys_of_their_own(driver, another, one, "ordered")


@pytest.mark.parametrize("end", ["complete", "fail"])
async def test_of_jobs_that_ended_no_key_is_left(client: Redis, redis_prefix: str, end: str) -> None:
    driver = _driver(client, redis_prefix)
    await driver.push([*new_jobs(5), *new_jobs(5, delay=SHORT)])
    await staged(driver, 10)
    first, second, third, *rest = await driver.fetch([QUEUE], 10, LONG)
    await driver.retry([Retry(first.lease, 0)])
    await driver.release([second.lease])
    await driver.renew([third.lease], SHORT)
    await rescued(driver, 1)
    await staged(driver, 3)
    again = await driver.fetch([QUEUE], 10, LONG)
    assert await VERBS[end](driver, leases([*again, *rest])) == set()
    await driver.retry_failed([])
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


async def test_of_a_failed_job_that_was_put_back_and_done_no_key_is_left(client: Redis, redis_prefix: str) -> None:
    driver = _driver(client, redis_prefix)
    await failed(driver, 3)
    await driver.retry_failed(await driver.failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 3, LONG)))
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


READS_A_WHOLE_KEY = {
    *("LRANGE", "LREM", "LPOS", "LINSERT", "HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SORT"),
    *("KEYS", "SCAN", "SSCAN", "ZSCAN"),
}
"""HSCAN is not among them: a rescue reads the failures that wait for their row, page by page."""


async def test_pitfall_16_no_key_is_read_as_a_whole(client: Redis, redis_prefix: str) -> None:
    driver = _driver(client, redis_prefix)
    async with redis_commands(driver) as commands:
        await _exercise(driver, QUEUE)
        await driver.stage([QUEUE])
        await driver.rescue([QUEUE])
        await driver.complete(leases(await driver.fetch([QUEUE], 10, LONG)))
        await driver.size(QUEUE)
        await driver.stats(QUEUE)
        await driver.clear(QUEUE)
    assert commands.total() > 20
    assert not READS_A_WHOLE_KEY & commands.keys()


# ── a process that ends between Redis and the table ──────────────────────────────────────────────────


@pytest.mark.parametrize("moment", ["before the row is written", "after the row was written"])
@pytest.mark.parametrize("again", ["fail", "rescue"])
async def test_pitfall_23_a_failure_that_was_cut_off_is_finished(
    client: Redis, redis_prefix: str, moment: str, again: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    held = leases(await pushed_and_fetched(driver, 3))
    failures.dies = moment
    await VERBS["fail"](driver, held)
    assert await driver.fetch([QUEUE], 10, LONG) == []
    next_process = _driver(client, redis_prefix, failures)
    if again == "fail":
        await VERBS["fail"](next_process, held)
    await next_process.rescue([QUEUE])
    assert sorted(ids(await failures.rows())) == sorted(each.job_id for each in held)
    assert states(await next_process.stats(QUEUE)) == {"failed": 3}
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


async def test_failures_wait_in_redis_while_the_table_is_away(client: Redis, redis_prefix: str) -> None:
    failures = AbsentFailureStore()
    driver = _driver(client, redis_prefix, failures)
    held = leases(await pushed_and_fetched(driver, 3))
    assert await VERBS["fail"](driver, held) == set()
    assert states(await driver.stats(QUEUE)) == {"failed": 3}
    assert await driver.queues() == [QUEUE]
    await driver.rescue([QUEUE])
    assert await driver.fetch([QUEUE], 10, LONG) == []
    failures.absent = False
    await driver.rescue([QUEUE])
    assert len(await failures.rows()) == 3
    assert states(await driver.stats(QUEUE)) == {"failed": 3}


@pytest.mark.parametrize("moment", ["before the job is back", "before the row is removed", "after the row was removed"])
async def test_putting_back_that_was_cut_off_is_finished_by_the_next(
    client: Redis, redis_prefix: str, moment: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    expected = await failed(driver, 3)
    rows = await failures.rows()
    failures.dies = moment
    with pytest.raises(Died):
        await driver.retry_failed(rows)
    next_process = _driver(client, redis_prefix, failures)
    await next_process.retry_failed(await failures.rows())
    assert await failures.rows() == []
    assert states(await next_process.stats(QUEUE)) == {"available": 3}
    assert sorted(ids(await next_process.fetch([QUEUE], 10, LONG))) == sorted(expected)


async def test_a_job_that_was_back_and_done_before_its_row_was_removed_is_not_put_back_again(
    client: Redis, redis_prefix: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    await failed(driver, 2)
    failures.dies = "before the row is removed"
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 10, LONG)))
    await driver.retry_failed(await failures.rows())
    assert await failures.rows() == []
    assert await driver.size(QUEUE) == 0
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


@pytest.mark.parametrize("moment", ["before the row is removed", "after the row was removed"])
async def test_a_job_that_was_back_and_failed_anew_can_be_put_back_again(
    client: Redis, redis_prefix: str, moment: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    await failed(driver, 1)
    failures.dies = moment
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    (job,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.fail([(job.lease, failure(job.lease, exception="anew"))])
    assert [row.exception for row in await failures.rows()] == ["anew"]
    assert await driver.retry_failed(await failures.rows()) == 1
    assert states(await driver.stats(QUEUE)) == {"available": 1}


async def test_a_job_put_back_after_a_cut_that_is_then_forgotten_and_dispatched_anew_runs(
    client: Redis, redis_prefix: str
) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    (job_id,) = await failed(driver, 1)
    failures.dies = "after the row was removed"
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 1, LONG)))
    await driver.push([new_job(job_id=job_id)])
    assert ids(await driver.fetch([QUEUE], 1, LONG)) == [job_id]


async def test_a_table_that_gives_no_answer_holds_up_nobody(
    client: Redis, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queue.drivers.unwritten_failures.PATIENCE", 0.05)
    failures = SilentFailureStore()
    driver = _driver(client, redis_prefix, failures)
    held = leases(await pushed_and_fetched(driver, 3))
    await pushed_and_fetched(driver, 1, queue="texts", lease=SHORT)
    async with asyncio.timeout(10):
        for lease in held:
            assert await VERBS["fail"](driver, [lease]) == set()
        await rescued(driver, 1, "texts")
    assert states(await driver.stats(QUEUE)) == {"failed": 3}
    failures.answers.set()
    await driver.close()
    assert len(await failures.rows()) == 3
    assert states(await _driver(client, redis_prefix, failures).stats(QUEUE)) == {"failed": 3}


async def test_lost_jobs_of_every_queue_are_rescued_while_the_table_is_out_of_order(
    client: Redis, redis_prefix: str
) -> None:
    failures = PickyFailureStore()
    driver = _driver(client, redis_prefix, failures)
    first, second, third = leases(await pushed_and_fetched(driver, 3))
    await pushed_and_fetched(driver, 1, queue="texts", lease=SHORT)
    await run_out(driver, SHORT)
    failures.refused = second.job_id
    await VERBS["fail"](driver, [first, second, third])
    assert set(ids(await failures.rows())) == {first.job_id, third.job_id}
    assert await driver.rescue([QUEUE, "texts"]) == 1
    assert states(await driver.stats(QUEUE)) == {"failed": 3}
    failures.refused = None  # max_allowed_packet was raised
    await driver.rescue([QUEUE])
    assert len(await failures.rows()) == 3


async def test_what_a_retry_by_hand_that_was_cut_off_left_is_cleared_away(client: Redis, redis_prefix: str) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    await failed(driver, 2)
    failures.dies = "after the row was removed"
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 10, LONG)))
    await driver.rescue([QUEUE])
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


async def test_the_mark_of_a_job_that_is_back_stays_as_long_as_its_row(client: Redis, redis_prefix: str) -> None:
    failures = BrittleFailureStore()
    driver = _driver(client, redis_prefix, failures)
    await failed(driver, 2)
    failures.dies = "before the row is removed"
    with pytest.raises(Died):
        await driver.retry_failed(await failures.rows())
    await driver.complete(leases(await driver.fetch([QUEUE], 10, LONG)))
    await driver.rescue([QUEUE])
    await driver.retry_failed(await failures.rows())
    assert await driver.size(QUEUE) == 0


async def test_a_queue_is_known_again_after_redis_has_lost_its_data(client: Redis, redis_prefix: str) -> None:
    driver = _driver(client, redis_prefix)
    await driver.push([new_job()])
    await client.delete(*await _keys(client, redis_prefix))
    await driver.push([new_job()])
    assert await driver.queues() == [QUEUE]


# ── with the table in a database, as in production ───────────────────────────────────────────────────


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[DatabaseFailureStore]:
    database = Database(f"sqlite:///{tmp_path}/failed.sqlite3")
    await upgrade(database)
    yield DatabaseFailureStore(database)
    await database.close()


async def test_failed_jobs_go_to_the_database_and_back(
    client: Redis, redis_prefix: str, table: DatabaseFailureStore
) -> None:
    driver = _driver(client, redis_prefix, table)
    expected = await failed(driver, 3)
    assert states(await driver.stats(QUEUE)) == {"failed": 3}
    assert {row.connection for row in await table.rows()} == {"redis"}
    assert await driver.queues() == [QUEUE]
    assert await driver.retry_failed(await table.rows()) == 3
    assert await table.rows() == []
    assert sorted(ids(await driver.fetch([QUEUE], 5, LONG))) == sorted(expected)


# ── a server that goes away ──────────────────────────────────────────────────────────────────────────


async def test_a_server_that_was_killed_comes_back_with_the_jobs(restartable_redis: ValkeyProcess) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        done, waiting = await pushed_and_fetched(driver, 2, lease=SHORT)
        wake_up = driver.wake_up([QUEUE])
        restartable_redis.kill()
        with pytest.raises(QueueUnavailableError, match=str(restartable_redis.port)):
            await driver.complete([done.lease])
        assert not await wake_up.wait(0.05) or not await wake_up.wait(0.05)
        restartable_redis.start()
        assert await driver.complete([done.lease]) == set()
        await run_out(driver, SHORT)
        await rescued(driver, 1)
        assert await wake_up.wait(LONG)
        assert ids(await driver.fetch([QUEUE], 5, LONG)) == [waiting.job_id]
        await wake_up.close()


async def test_a_wake_up_whose_connection_breaks_without_a_word_listens_again(
    client: Redis, redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.queue.drivers.wake_up.redis.CHECK", 0.2)
    monkeypatch.setattr("core.queue.drivers.wake_up.redis.ANSWER", 0.5)
    options = client.connection_pool.connection_kwargs
    with Proxy(options["host"], options["port"]) as proxy:
        far = Redis(host=proxy.host, port=proxy.port)
        wake_up = _driver(far, redis_prefix).wake_up([QUEUE])
        assert await wake_up.wait(LONG)  # it tells of its own beginning
        assert not await wake_up.wait(0.6)  # not of the answers to its pings
        proxy.forget()
        assert await wake_up.wait(10)
        await _driver(client, redis_prefix).push([new_job()])
        assert await wake_up.wait(10)
        await wake_up.close()
        await far.aclose()


STATES: dict[str, dict[str, int]] = {
    "used memory": {"maxmemory": 1},
    "NOREPLICAS": {"min-replicas-to-write": 1},
}
"""What a server says that takes no writes for now, and what makes it say so."""


@pytest.mark.parametrize("said", STATES)
async def test_a_server_that_takes_nothing_for_now_is_waited_for(restartable_redis: ValkeyProcess, said: str) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        await driver.push([new_job()])
        for name, value in STATES[said].items():
            await client.config_set(name, value)
        with pytest.raises(QueueUnavailableError, match=f"{restartable_redis.port} .*{said}"):
            await driver.push([new_job()])
        for name in STATES[said]:
            await client.config_set(name, 0)
        await driver.push([new_job()])
        assert await driver.size(QUEUE) == 2


async def test_a_replica_is_no_place_to_push_to(restartable_redis: ValkeyProcess) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        await client.replicaof("127.0.0.1", "1")
        with pytest.raises(QueueUnavailableError, match="read only replica"):
            await _driver(client, "mine:").push([new_job()])


@pytest.mark.parametrize("verb", VERBS)
async def test_a_full_memory_does_not_keep_jobs_from_ending(restartable_redis: ValkeyProcess, verb: str) -> None:
    """What a worker reports frees memory, or takes none: a lease that cannot be renewed would be a job run twice."""
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        held = leases(await pushed_and_fetched(driver, 3))
        await client.config_set("maxmemory", 1)
        assert await VERBS[verb](driver, held) == set()
        assert states(await driver.stats(QUEUE)) == states_after(verb, 3)
        await driver.close()


async def test_a_full_memory_does_not_keep_a_turn_from_being_handed_on(restartable_redis: ValkeyProcess) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        line = [*new_line(3, KEY), new_job(ordering_key=KEY, delay=LONG)]
        await driver.push(line)
        await client.config_set("maxmemory", 1)
        for job, verb in zip(line, ("complete", "fail", "complete"), strict=False):
            fetched = await driver.fetch([QUEUE], 10, LONG)
            assert ids(fetched) == [job.job_id]
            assert await VERBS[verb](driver, leases(fetched)) == set()
        assert states(await driver.stats(QUEUE)) == {"scheduled": 1, "failed": 1}
        await driver.close()


@pytest.mark.parametrize(
    "job", [new_job(ordering_key=KEY), new_job(unique_key=KEY)], ids=["ordering key", "unique key"]
)
async def test_a_push_that_a_full_memory_refuses_leaves_no_trace(restartable_redis: ValkeyProcess, job: NewJob) -> None:
    async with Redis.from_url(restartable_redis.url) as client:
        driver = _driver(client, "mine:")
        await client.config_set("maxmemory", 1)
        with pytest.raises(QueueUnavailableError, match="used memory"):
            await driver.push([job])
        assert await _keys(client, "mine:{") == set()
        await client.config_set("maxmemory", 0)
        assert await driver.push([job]) == {}
        assert len(await driver.fetch([QUEUE], 1, LONG)) == 1


# ── a copier that is late ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def late(migrated_database_url: str) -> AsyncIterator[LateFailureStore]:
    database = Database(migrated_database_url)
    yield LateFailureStore(database)
    await database.close()


@pytest.fixture
async def prompt(migrated_database_url: str) -> AsyncIterator[DatabaseFailureStore]:
    database = Database(migrated_database_url)
    yield DatabaseFailureStore(database)
    await database.close()


@pytest.mark.parametrize("dies", [False, True], ids=["its row is settled", "its row is not settled"])
async def test_a_copier_that_is_late_does_not_bring_back_the_row_of_a_job_that_was_put_back(
    client: Redis,
    redis_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    late: LateFailureStore,
    prompt: DatabaseFailureStore,
    dies: bool,
) -> None:
    monkeypatch.setattr("core.queue.drivers.unwritten_failures.PATIENCE", 0.05)
    slow, driver = _driver(client, redis_prefix, late), _driver(client, redis_prefix, prompt)
    await VERBS["fail"](slow, leases(await pushed_and_fetched(slow, 3)))
    await asyncio.wait_for(late.is_late.wait(), 10)
    monkeypatch.setattr("core.queue.drivers.unwritten_failures.PATIENCE", 10)
    if dies:  # with the row written, before it is settled
        entries: list[Any] = await client.hvals(driver._scripts.key(QUEUE, "failed"))
        await prompt.record("redis", [msgspec.msgpack.decode(each, type=Failure) for each in entries])
    else:
        await driver.rescue([QUEUE])
    assert await driver.retry_failed(await prompt.rows()) == 3
    await driver.complete(leases(await driver.fetch([QUEUE], 10, LONG)))
    late.goes_on.set()
    await slow.close()
    assert await prompt.rows() == []
    assert await _keys(client, redis_prefix) == {f"{redis_prefix}queues"}


async def test_of_a_late_copiers_failures_those_that_still_lie_in_redis_get_their_rows(
    client: Redis, redis_prefix: str, monkeypatch: pytest.MonkeyPatch, late: LateFailureStore
) -> None:
    monkeypatch.setattr("core.queue.drivers.unwritten_failures.PATIENCE", 0.05)
    slow = _driver(client, redis_prefix, late)
    held = leases(await pushed_and_fetched(slow, 3))
    await VERBS["fail"](slow, held)
    await asyncio.wait_for(late.is_late.wait(), 10)
    monkeypatch.setattr("core.queue.drivers.unwritten_failures.PATIENCE", 10)
    await client.hdel(slow._scripts.key(QUEUE, "failed"), held[1].job_id)
    late.goes_on.set()
    await slow.close()
    assert set(ids(await late.rows())) == {held[0].job_id, held[2].job_id}
