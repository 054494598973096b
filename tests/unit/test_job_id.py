"""Job ids: unique over threads and processes, and growing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from core.queue.job_id import JobIds, new_job_id

ROOT = Path(__file__).resolve().parents[2]


def make(count: int) -> list[str]:
    return [new_job_id() for _ in range(count)]


def test_an_id_is_a_uuid_of_version_7() -> None:
    for text in make(100):
        value = UUID(text)
        assert str(value) == text
        assert (value.version, value.variant) == (7, RFC_4122)


def test_an_id_begins_with_the_millisecond_it_was_made_in() -> None:
    before = time.time_ns() // 1_000_000
    made = UUID(JobIds().next()).int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_grow_within_a_millisecond_too(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: moment)
    made = JobIds()
    ids = [made.next() for _ in range(5000)]
    assert all(one < other for one, other in pairwise(ids))


def test_ids_grow_although_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = JobIds()
    first = made.next()
    hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: hour_ago)
    assert first < made.next() < made.next()


def test_ids_stay_uuids_when_the_random_part_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: moment)
    monkeypatch.setattr("os.urandom", lambda size: b"\xff" * size)
    made = JobIds()
    ids = [UUID(made.next()) for _ in range(100)]
    assert all(one < other for one, other in pairwise(ids))
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}


def test_pitfall_14_threads_never_make_the_same_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(make, [5000] * 8))
    assert len({each for part in parts for each in part}) == 8 * 5000
    assert all(part == sorted(part) for part in parts)


@pytest.mark.parametrize("number", range(20))
def test_pitfall_14_processes_of_one_millisecond_never_make_the_same_id(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.time_ns() + number
    monkeypatch.setattr(time, "time_ns", lambda: moment)
    processes = [JobIds() for _ in range(8)]
    made = [each.next() for _ in range(200) for each in processes]
    assert len(set(made)) == len(made)


def test_pitfall_14_processes_forked_within_a_millisecond_never_make_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: moment)
    parent, child = JobIds(), JobIds()
    parent.next()
    child._milliseconds, child._front, child._tail = parent._milliseconds, parent._front, parent._tail  # as a fork does
    child._head = parent._head
    made = [each.next() for _ in range(500) for each in (parent, child)]
    assert len(set(made)) == len(made)


def test_an_id_follows_the_last_also_where_its_last_group_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: moment)
    job_ids = JobIds()
    job_ids._set(moment // 1_000_000 << 74 | (1 << 48) - 1)
    last = "00000000-0000-7000-8000-ffffffffffff"
    following = job_ids.next()
    assert following[13:23] == "-7000-8001"
    assert following[14:] > last[14:]
    assert job_ids.next() > following


FORKING = """
import os, time
moment = time.time_ns()
time.time_ns = lambda: moment  # were the random numbers the same, then so were the ids
from core.queue.job_id import new_job_id

def say(who, count):
    os.write(1, "".join(f"{who} {new_job_id()}\\n" for _ in range(count)).encode())

say("parent", 10)
for child in ("one", "other"):
    pid = os.fork()
    if not pid:
        say(child, 1000)
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
say("parent", 1000)
"""


def test_pitfall_14_forked_processes_go_on_from_one_state_and_never_make_the_same_id() -> None:
    # In a process of its own: a fork of ours would hold the pipe on which pytest-xdist waits for our end.
    done = subprocess.run(
        [sys.executable, "-c", FORKING], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=45
    )
    said = [line.split() for line in done.stdout.splitlines()]
    assert Counter(who for who, _ in said) == {"parent": 1010, "one": 1000, "other": 1000}
    assert len({made for _, made in said}) == len(said)
