"""Jobs given up: whole in failed_jobs, and put back by hand without loss or double."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from core.queue.driver import Driver
from core.queue.state import Failure, FetchedJob
from tests.contract.jobs import (
    LONG,
    QUEUE,
    failed,
    failure,
    ids,
    leases,
    new_job,
    pushed_and_fetched,
    states,
)

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: é 日 \U0001f680 %s {} \\'


async def test_a_failed_job_is_kept_with_everything(driver: Driver) -> None:
    payload = json.dumps({"to": "ä@example.com", "nul": "\x00"}).encode()
    await driver.push([new_job("mail {1}", payload=payload)])
    (job,) = await driver.fetch(["mail {1}"], 1, LONG)
    cause = Failure(job.job_id, job.queue, "app.jobs.SendEmail", payload, TRACEBACK, 3)
    assert await driver.fail([(job.lease, cause)]) == set()
    (row,) = await driver.failures.rows()
    assert (row.job_id, row.queue, row.connection) == (job.job_id, "mail {1}", driver.connection)
    assert (row.job, row.payload, row.exception, row.attempts) == (cause.job, payload, TRACEBACK, 3)
    assert await driver.size("mail {1}") == 0
    assert await driver.fetch(["mail {1}"], 1, LONG) == []


async def test_pitfall_21_the_moment_of_a_failure_is_utc(driver: Driver) -> None:
    await failed(driver, 1)
    (row,) = await driver.failures.rows()
    assert row.failed_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - row.failed_at) < timedelta(minutes=5)


async def test_pitfall_24_a_large_payload_and_traceback_are_kept_whole(driver: Driver) -> None:
    payload = json.dumps({"blob": "é" * 500_000}, ensure_ascii=False).encode()
    await driver.push([new_job(payload=payload)])
    (job,) = await driver.fetch([QUEUE], 1, LONG)
    cause = Failure(job.job_id, QUEUE, "Large", payload, TRACEBACK * 3000, 1)
    await driver.fail([(job.lease, cause)])
    (row,) = await driver.failures.rows()
    assert row.payload == payload
    assert row.exception == TRACEBACK * 3000
    await driver.retry_failed([row])
    assert [each.payload for each in await driver.fetch([QUEUE], 1, LONG)] == [payload]


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff\xfe not json", b'{"v": 1', bytes(range(256))])
async def test_a_payload_that_is_no_envelope_is_kept_byte_for_byte(driver: Driver, payload: bytes) -> None:
    (job,) = await pushed_and_fetched(driver, 1)
    await driver.fail([(job.lease, Failure(job.job_id, QUEUE, "", payload, TRACEBACK, 1))])
    (row,) = await driver.failures.rows()
    assert (row.job, row.payload) == ("", payload)


@pytest.mark.parametrize(
    "exception", ["", "nul \x00 in it", "lone \ud800 surrogate"], ids=["empty", "nul", "surrogate"]
)
async def test_an_odd_traceback_does_not_stop_the_record(driver: Driver, exception: str) -> None:
    (job,) = await pushed_and_fetched(driver, 1)
    assert await driver.fail([(job.lease, failure(job.lease, exception=exception))]) == set()
    (row,) = await driver.failures.rows()
    assert row.exception[:3] == exception[:3]


async def test_failing_twice_leaves_one_row(driver: Driver, other: Driver) -> None:
    (job,) = await pushed_and_fetched(driver, 1)
    await driver.fail([(job.lease, failure(job.lease, exception="first"))])
    assert await other.fail([(job.lease, failure(job.lease, exception="second"))]) == {job.job_id}
    assert [row.exception for row in await driver.failures.rows()] == ["first"]


async def test_a_job_that_fails_again_replaces_its_row(driver: Driver) -> None:
    await failed(driver, 1)
    await driver.retry_failed(await driver.failures.rows())
    (again,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.fail([(again.lease, failure(again.lease, exception="again", attempts=7))])
    (row,) = await driver.failures.rows()
    assert (row.job_id, row.exception, row.attempts) == (again.job_id, "again", 7)
    assert (await driver.stats(QUEUE)).failed == 1


# ── the table ────────────────────────────────────────────────────────────────────────────────────────


async def test_recording_twice_replaces(driver: Driver) -> None:
    (job_id, *_) = await failed(driver, 2)
    (row,) = [row for row in await driver.failures.rows() if row.job_id == job_id]
    again = Failure(job_id, "elsewhere", "Other", b"{}", "again", 9)
    await driver.failures.record("elsewhere", [again])
    replaced = await driver.failures.find(job_id)
    assert replaced is not None
    assert (replaced.queue, replaced.job, replaced.payload) == ("elsewhere", "Other", b"{}")
    assert (replaced.connection, replaced.exception, replaced.attempts) == ("elsewhere", "again", 9)
    assert replaced.failed_at >= row.failed_at
    assert len(await driver.failures.rows()) == 2


async def test_the_rows_are_listed_newest_first(driver: Driver) -> None:
    oldest_first = [job_id for _ in range(4) for job_id in await failed(driver, 1)]
    assert ids(await driver.failures.rows()) == oldest_first[::-1]
    assert ids(await driver.failures.rows(limit=2)) == oldest_first[:1:-1]
    assert await driver.failures.rows(limit=0) == []


async def test_a_replaced_row_is_the_newest(driver: Driver) -> None:
    (job_id, *_) = [job_id for _ in range(3) for job_id in await failed(driver, 1)]
    await driver.failures.record(driver.connection, [Failure(job_id, QUEUE, "", b"{}", "again", 2)])
    assert ids(await driver.failures.rows(limit=1)) == [job_id]


async def test_the_rows_of_one_queue_are_listed(driver: Driver) -> None:
    emails, texts = await failed(driver, 2), await failed(driver, 1, "texts")
    assert set(ids(await driver.failures.rows(queue=QUEUE))) == set(emails)
    assert ids(await driver.failures.rows(queue="texts", limit=5)) == texts
    assert await driver.failures.rows(queue="neither") == []


async def test_the_rows_are_listed_in_pages(driver: Driver) -> None:
    together = [Failure(f"together-{n}", QUEUE, "", b"{}", "", 1) for n in range(4)]
    await driver.failures.record(driver.connection, together)  # of one moment, so that it does not tell them apart
    await failed(driver, 3)
    everything = await driver.failures.rows()
    pages, page = [], await driver.failures.rows(limit=2)
    while page:
        pages.append(page)
        page = await driver.failures.rows(limit=2, before=page[-1])
    assert [row for page in pages for row in page] == everything
    assert [len(page) for page in pages] == [2, 2, 2, 1]


async def test_a_page_goes_on_where_the_last_ended_though_that_is_gone_and_others_came(driver: Driver) -> None:
    oldest, newest = [(await failed(driver, 1))[0] for _ in range(2)]
    (last,) = await driver.failures.rows(limit=1)
    assert last.job_id == newest
    await driver.failures.forget([newest])
    await failed(driver, 1)
    assert ids(await driver.failures.rows(before=last)) == [oldest]
    assert await driver.failures.rows(before=last, queue="texts") == []


async def test_the_rows_may_be_listed_without_their_payloads(driver: Driver) -> None:
    await failed(driver, 2)
    whole = await driver.failures.rows()
    assert all(row.payload for row in whole)
    assert await driver.failures.rows(payloads=False) == [replace(row, payload=b"") for row in whole]


async def test_a_row_is_found_by_its_id_or_its_job_id(driver: Driver) -> None:
    first, second = await failed(driver, 2)
    for job_id in (first, second):
        row = await driver.failures.find(job_id)
        assert row is not None
        assert row.job_id == job_id
        assert await driver.failures.find(str(row.id)) == row


@pytest.mark.parametrize("key", ["0", "-1", "999999999", "9" * 40, "nothing", "", "1 OR 1=1", "\uff11", "é" * 300])
async def test_what_is_not_there_is_not_found(driver: Driver, key: str) -> None:
    assert await driver.failures.find(key) is None


async def test_forgetting_deletes_the_rows_named(driver: Driver) -> None:
    first, second, third = await failed(driver, 3)
    assert await driver.failures.forget([first, third, "nothing"]) == 2
    assert await driver.failures.forget([first]) == 0
    assert await driver.failures.forget([]) == 0
    assert ids(await driver.failures.rows()) == [second]


async def test_flushing_deletes_every_row(driver: Driver) -> None:
    await failed(driver, 2)
    await failed(driver, 1, "texts")
    assert await driver.failures.flush() == 3
    assert await driver.failures.flush() == 0
    assert await driver.failures.rows() == []


async def test_pruning_deletes_what_failed_before_a_moment(driver: Driver) -> None:
    old = await failed(driver, 2)
    oldest_kept = await failed(driver, 1)
    row = await driver.failures.find(oldest_kept[0])
    assert row is not None
    assert await driver.failures.prune(row.failed_at - timedelta(days=1)) == 0
    assert await driver.failures.prune(row.failed_at) == len(old)
    assert ids(await driver.failures.rows()) == oldest_kept
    assert await driver.failures.prune(row.failed_at + timedelta(microseconds=1)) == 1


async def test_a_moment_to_prune_before_may_be_of_any_timezone(driver: Driver) -> None:
    await failed(driver, 1)
    east = datetime.now(UTC).astimezone().tzinfo
    assert await driver.failures.prune((datetime.now(UTC) - timedelta(hours=1)).astimezone(east)) == 0
    assert await driver.failures.prune((datetime.now(UTC) + timedelta(hours=1)).astimezone(east)) == 1


async def test_rows_are_counted_per_queue_and_connection(driver: Driver) -> None:
    await failed(driver, 2)
    await failed(driver, 1, "texts")
    await driver.failures.record("elsewhere", [Failure("x", QUEUE, "", b"{}", "", 1)])
    assert await driver.failures.count(driver.connection) == {QUEUE: 2, "texts": 1}
    assert await driver.failures.count("elsewhere") == {QUEUE: 1}
    assert await driver.failures.count("nowhere") == {}


async def test_taken_rows_are_deleted_when_the_block_ends(driver: Driver) -> None:
    first, second = await failed(driver, 2)
    async with driver.failures.take([first, "nothing"]) as rows:
        assert ids(rows) == [first]
    assert ids(await driver.failures.rows()) == [second]


async def test_taken_rows_stay_when_the_block_fails(driver: Driver) -> None:
    (job_id,) = await failed(driver, 1)
    with pytest.raises(ZeroDivisionError):
        async with driver.failures.take([job_id]):
            raise ZeroDivisionError
    async with driver.failures.take([job_id]) as rows:
        assert ids(rows) == [job_id]


async def test_a_second_taker_waits_and_then_finds_nothing(driver: Driver, other: Driver) -> None:
    (job_id,) = await failed(driver, 1)

    async def take_too() -> list[str]:
        async with other.failures.take([job_id]) as rows:
            return ids(rows)

    async with driver.failures.take([job_id]) as rows:
        second = asyncio.create_task(take_too())
        await asyncio.wait([second], timeout=0.1)
        assert not second.done()
        assert ids(rows) == [job_id]
    assert await second == []


async def test_a_row_that_is_recorded_anew_while_it_is_taken_stays(driver: Driver, other: Driver) -> None:
    """Its job was put back, ran and failed again before the block ended."""
    (job_id,) = await failed(driver, 1)
    again = Failure(job_id, QUEUE, "", b"{}", "again", 2)
    async with driver.failures.take([job_id]):
        recording = asyncio.create_task(other.failures.record(other.connection, [again]))
        await asyncio.wait([recording], timeout=0.1)
    await recording
    assert [row.exception for row in await driver.failures.rows()] == ["again"]


# ── put back by hand ─────────────────────────────────────────────────────────────────────────────────


async def test_a_failed_job_is_put_back_with_no_tries_counted(driver: Driver) -> None:
    await driver.push([new_job(payload=b'{"kept":1}')])
    (job,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.fail([(job.lease, Failure(job.job_id, QUEUE, "", job.payload, TRACEBACK, 3))])
    assert await driver.retry_failed(await driver.failures.rows()) == 1
    assert states(await driver.stats(QUEUE)) == {"available": 1}
    assert await driver.failures.rows() == []
    (again,) = await driver.fetch([QUEUE], 10, LONG)
    assert (again.job_id, again.payload, again.attempts) == (job.job_id, b'{"kept":1}', 1)
    assert again.token != job.token


async def test_failed_jobs_go_back_to_the_queue_they_came_from(driver: Driver) -> None:
    emails, texts = await failed(driver, 2), await failed(driver, 1, "texts")
    assert await driver.retry_failed(await driver.failures.rows()) == 3
    assert set(ids(await driver.fetch([QUEUE], 10, LONG))) == set(emails)
    assert ids(await driver.fetch(["texts"], 10, LONG)) == texts


async def test_putting_back_again_does_not_double(driver: Driver) -> None:
    await failed(driver, 2)
    rows = await driver.failures.rows()
    assert await driver.retry_failed(rows) == 2
    assert await driver.retry_failed(rows) == 0
    assert await driver.size(QUEUE) == 2


async def test_putting_back_again_does_not_bring_back_a_finished_job(driver: Driver) -> None:
    await failed(driver, 2)
    rows = await driver.failures.rows()
    await driver.retry_failed(rows)
    await driver.complete(leases(await driver.fetch([QUEUE], 2, LONG)))
    assert await driver.retry_failed(rows) == 0
    assert await driver.size(QUEUE) == 0


async def test_two_operators_at_once_do_not_double(driver: Driver, other: Driver) -> None:
    expected = await failed(driver, 30)
    rows = await driver.failures.rows()
    done: list[FetchedJob] = []

    async def work() -> None:
        while len(done) < 30:
            fetched = await driver.fetch([QUEUE], 5, LONG)
            done.extend(fetched)
            await driver.complete(leases(fetched))
            await asyncio.sleep(0)

    working = asyncio.create_task(work())
    operators = (each.retry_failed(rows[start:]) for each in (driver, other) for start in (0, 10, 20))
    assert sum(await asyncio.gather(*operators)) == 30
    await working
    assert sorted(ids(done)) == sorted(expected)
    assert await driver.size(QUEUE) == 0
    assert await driver.failures.rows() == []


async def test_operators_who_name_the_rows_in_different_order_do_not_block_each_other(
    driver: Driver, other: Driver
) -> None:
    await failed(driver, 40)
    rows = await driver.failures.rows()
    counts = await asyncio.gather(driver.retry_failed(rows), other.retry_failed(rows[::-1]))
    assert sum(counts) == 40
    assert await driver.size(QUEUE) == 40


async def test_a_job_that_was_put_back_may_fail_and_be_put_back_again(driver: Driver) -> None:
    (job_id,) = await failed(driver, 1)
    for _ in range(3):
        assert await driver.retry_failed(await driver.failures.rows()) == 1
        (job,) = await driver.fetch([QUEUE], 1, LONG)
        assert (job.job_id, job.attempts) == (job_id, 1)
        await driver.fail([(job.lease, failure(job.lease))])
    assert states(await driver.stats(QUEUE)) == {"failed": 1}


async def test_a_forgotten_row_is_not_put_back(driver: Driver) -> None:
    await failed(driver, 1)
    rows = await driver.failures.rows()
    await driver.failures.flush()
    assert await driver.retry_failed(rows) == 0
    assert await driver.size(QUEUE) == 0
