"""Into the store: once per job id, and whole."""

from __future__ import annotations

import json

import pytest

from core.queue.driver import Driver
from core.queue.state import Retry
from tests.contract.jobs import LONG, QUEUE, SHORT, ids, new_job, new_jobs, staged, states

MEBIBYTE = 1024 * 1024

AWKWARD = {
    "empty": "",
    "escapes": '"\\/\b\f\n\r\t\u2028',
    "nul": "\x00",
    "quotes": "'; DROP TABLE jobs; -- %s {} :name",
    "script": "日本語 \U0001f680 e\u0301 \u200f",
    "numbers": [0, -1, 1e300, 12345678901234567890, 0.1],
    "nested": [[[[{"": None}]]], True, False],
}

FRAGMENTS = [
    *(b"", b"\\", b"\\n", b"\\.", b"\\N", b"\n", b"\r", b"\r\n", b"\t", b"\x00", b"\x0b\x1f"),
    *(b"'", b'"', b"%s {} :name $1 ?", b"\xff\xfe", b"data:;base64,", b"data:;base64,AA=="),
    *(character.encode() for character in ("\x85", "\u2028", "\U0001f680")),
]
"""What means something to a store, or is no text at all."""


async def test_a_pushed_job_comes_back_as_it_was(driver: Driver) -> None:
    job = new_job()
    await driver.push([job])
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    assert (fetched.job_id, fetched.queue, fetched.payload) == (job.job_id, QUEUE, job.payload)
    assert fetched.attempts == 1
    assert fetched.token


async def test_a_job_id_is_stored_once(driver: Driver, other: Driver) -> None:
    job = new_job()
    await driver.push([job])
    await other.push([new_job(job_id=job.job_id, payload=b'{"v":2}')])
    assert [each.payload for each in await driver.fetch([QUEUE], 10, LONG)] == [job.payload]


async def test_a_job_id_that_a_batch_has_twice_is_stored_once(driver: Driver) -> None:
    job = new_job()
    await driver.push([job, new_job(), job])
    assert await driver.size(QUEUE) == 2
    assert len(await driver.fetch([QUEUE], 10, LONG)) == 2


async def test_a_large_batch_of_which_some_are_there_is_stored_once_and_in_order(driver: Driver) -> None:
    jobs = new_jobs(100)
    await driver.push(jobs[:50])
    await driver.push(jobs)
    assert ids(await driver.fetch([QUEUE], 200, LONG)) == [job.job_id for job in jobs]


async def test_a_large_batch_of_jobs_due_at_different_times_is_stored_so(driver: Driver) -> None:
    await driver.push([*new_jobs(50, delay=LONG), *new_jobs(50)])
    assert states(await driver.stats(QUEUE)) == {"scheduled": 50, "available": 50}


async def test_pushing_again_leaves_an_executing_job_alone(driver: Driver) -> None:
    job = new_job()
    await driver.push([job])
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.push([job])
    assert states(await driver.stats(QUEUE)) == {"executing": 1}
    assert await driver.fetch([QUEUE], 1, LONG) == []
    assert await driver.complete([fetched.lease]) == set()
    assert await driver.size(QUEUE) == 0


async def test_pushing_again_a_job_that_was_completed_runs_it_again(driver: Driver) -> None:
    job = new_job()
    await driver.push([job])
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    assert await driver.complete([fetched.lease]) == set()
    await driver.push([job])
    assert ids(await driver.fetch([QUEUE], 10, LONG)) == [job.job_id]


async def test_pushing_again_leaves_a_scheduled_job_alone(driver: Driver) -> None:
    job = new_job(delay=LONG)
    await driver.push([job])
    await driver.push([new_job(job_id=job.job_id)])
    assert states(await driver.stats(QUEUE)) == {"scheduled": 1}


async def test_pushing_again_leaves_a_retryable_job_alone(driver: Driver) -> None:
    job = new_job()
    await driver.push([job])
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    await driver.retry([Retry(fetched.lease, SHORT)])
    await driver.push([job])
    await staged(driver, 1)
    (again,) = await driver.fetch([QUEUE], 10, LONG)
    assert again.attempts == 2


async def test_pushing_a_batch_again_adds_what_was_missing(driver: Driver) -> None:
    jobs = new_jobs(10)
    await driver.push(jobs[:4])
    await driver.push(jobs)
    assert ids(await driver.fetch([QUEUE], 20, LONG)) == ids(jobs)


async def test_pitfall_24_a_payload_of_a_mebibyte_comes_back_whole(driver: Driver) -> None:
    payload = json.dumps({"blob": "é" * (MEBIBYTE // 2)}, ensure_ascii=False).encode()
    await driver.push([new_job(payload=payload)])
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    assert fetched.payload == payload


async def test_a_batch_of_large_payloads_comes_back_whole(driver: Driver) -> None:
    payloads = [json.dumps({"blob": str(digit) * MEBIBYTE}).encode() for digit in range(6)]
    await driver.push([new_job(payload=payload) for payload in payloads])
    assert [job.payload for job in await driver.fetch([QUEUE], 6, LONG)] == payloads


@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "utf8"])
async def test_awkward_json_comes_back_byte_for_byte(driver: Driver, ascii_only: bool) -> None:
    payload = json.dumps(AWKWARD, ensure_ascii=ascii_only, indent=1).encode()
    await driver.push([new_job(payload=payload)])
    (fetched,) = await driver.fetch([QUEUE], 1, LONG)
    assert fetched.payload == payload


async def test_many_awkward_payloads_in_one_batch_come_back_byte_for_byte(driver: Driver) -> None:
    """Many jobs may go another way into the store than one, with escapes of its own."""
    queues = ["*[a-z]?\\", "\\n", "a\tb\r\nc", "'\"`;--%s?$1"]
    for each in FRAGMENTS:  # a batch for each: one that is refused may be stored whole in another way
        payloads = [each, b"a" + each + b"b", each * 2] * 4
        await driver.push([new_job(queue, payload=payload) for payload in payloads for queue in queues])
        for queue in queues:
            assert [job.payload for job in await driver.fetch([queue], len(payloads) + 1, LONG)] == payloads


@pytest.mark.parametrize(
    "queue",
    [
        "two words",
        "日本語-\U0001f680",
        "{curly}",
        "}{",
        "a:b:c",
        "a/b+c#d",
        "'\"`;--%s?$1",
        "*[a-z]?\\",
        "n" * 191,
        "é" * 191,
    ],
    ids=lambda queue: queue[:12],
)
async def test_a_queue_may_have_any_name(driver: Driver, queue: str) -> None:
    job, scheduled = new_job(queue), new_job(queue, delay=LONG)
    await driver.push([job, scheduled])
    assert await driver.queues() == [queue]
    (fetched,) = await driver.fetch([queue], 10, LONG)
    assert (fetched.job_id, fetched.queue) == (job.job_id, queue)
    assert states(await driver.stats(queue)) == {"executing": 1, "scheduled": 1}
    assert await driver.complete([fetched.lease]) == set()
    assert await driver.clear(queue) == 1
    assert await driver.queues() == []


@pytest.mark.parametrize(
    ("one", "another"),
    [("emails", "Emails"), ("emails", "émails"), ("emails", "emails "), ("a", "a:available"), ("a", "{a}")],
)
async def test_names_that_look_alike_are_queues_of_their_own(driver: Driver, one: str, another: str) -> None:
    first, second = new_job(one), new_job(another)
    await driver.push([first, second])
    assert await driver.queues() == sorted([one, another])
    assert await driver.size(one) == 1
    assert ids(await driver.fetch([another], 10, LONG)) == ids([second])
    assert ids(await driver.fetch([one], 10, LONG)) == ids([first])
