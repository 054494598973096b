"""Group commit: what is dispatched together shares a write, and nobody hears of another's fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from core.errors import DispatchError, QueueUnavailableError
from core.queue import group_commit
from core.queue.group_commit import GroupCommit, chunks
from core.queue.job_id import new_job_id
from core.queue.state import NewJob


class Store:
    """Remembers each write; holds writes up while its gate is closed, and refuses what it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.writing = asyncio.Semaphore(0)
        self.writes: list[list[str]] = []
        self.refused: dict[str, Exception] = {}
        self.standing: dict[str, str] = {}
        self.down = False

    async def push(self, jobs: Sequence[NewJob]) -> Mapping[str, str]:
        self.writes.append([job.job_id for job in jobs])
        self.writing.release()
        await self.gate.wait()
        if self.down:
            raise QueueUnavailableError("no answer from here:1")
        for job in jobs:
            if job.job_id in self.refused:
                raise self.refused[job.job_id]
        return {job.job_id: self.standing[job.job_id] for job in jobs if job.job_id in self.standing}

    def stored(self) -> list[str]:
        return [each for write in self.writes for each in write]


def new_jobs(count: int, size: int = 2) -> list[NewJob]:
    return [NewJob(new_job_id(), "emails", b"x" * size) for _ in range(count)]


def ids(jobs: Sequence[NewJob]) -> list[str]:
    return [job.job_id for job in jobs]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def commit(store: Store) -> AsyncIterator[GroupCommit]:
    commit = GroupCommit(store.push, limit=10_000)
    yield commit
    store.gate.set()
    await commit.flush()


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def started(commit: GroupCommit, jobs: Sequence[NewJob]) -> list[asyncio.Task[str]]:
    """Dispatches under way, each waiting for its write."""
    tasks = [asyncio.create_task(commit.add(job)) for job in jobs]
    await turns()
    return tasks


async def test_a_lone_dispatch_is_written_at_once(store: Store, commit: GroupCommit) -> None:
    (job,) = new_jobs(1)
    await commit.add(job)
    assert store.writes == [[job.job_id]]


async def test_concurrent_dispatches_share_one_write(store: Store, commit: GroupCommit) -> None:
    jobs = new_jobs(500)
    await asyncio.gather(*(commit.add(job) for job in jobs))
    assert store.writes == [ids(jobs)]


async def test_what_comes_during_a_write_shares_the_next(store: Store, commit: GroupCommit) -> None:
    store.gate.clear()
    first, *others = jobs = new_jobs(100)
    tasks = [*await started(commit, [first]), *await started(commit, others)]
    assert store.writes == [[first.job_id]]
    store.gate.set()
    await asyncio.gather(*tasks)
    assert store.writes == [[first.job_id], ids(others)]
    assert store.stored() == ids(jobs)


async def test_nothing_returns_before_its_write_has(store: Store, commit: GroupCommit) -> None:
    store.gate.clear()
    (task,) = await started(commit, new_jobs(1))
    assert not task.done()
    store.gate.set()
    await task


async def test_dispatches_one_after_another_are_written_in_order(store: Store, commit: GroupCommit) -> None:
    jobs = new_jobs(3)
    for job in jobs:
        await commit.add(job)
    assert store.writes == [[job.job_id] for job in jobs]


async def test_each_dispatcher_hears_of_the_job_that_stands_for_its_own(store: Store, commit: GroupCommit) -> None:
    jobs = new_jobs(4)
    store.standing = {jobs[1].job_id: "an older one", jobs[3].job_id: jobs[0].job_id}
    found = await asyncio.gather(*(commit.add(job) for job in jobs))
    assert found == [jobs[0].job_id, "an older one", jobs[2].job_id, jobs[0].job_id]
    assert len(store.writes) == 1


async def test_what_stands_is_told_too_where_a_batch_is_written_one_by_one(store: Store, commit: GroupCommit) -> None:
    jobs = new_jobs(2)
    store.standing = {jobs[1].job_id: "an older one"}
    store.refused = {jobs[0].job_id: ValueError("no")}
    results = await asyncio.gather(*(commit.add(job) for job in jobs), return_exceptions=True)
    assert [str(each) for each in results] == ["no", "an older one"]


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_more_jobs_wait_than_the_limit_allows(store: Store) -> None:
    commit = GroupCommit(store.push, limit=3)
    store.gate.clear()
    jobs = new_jobs(10)
    tasks = await started(commit, jobs)
    store.gate.set()
    await asyncio.gather(*tasks)
    assert max(map(len, store.writes)) == 3
    assert store.stored() == ids(jobs)


async def test_dispatches_that_were_given_up_leave_no_job_waiting(store: Store) -> None:
    commit = GroupCommit(store.push, limit=2)
    store.gate.clear()
    (first,) = await started(commit, new_jobs(1))
    for _ in range(20):
        (task,) = await started(commit, new_jobs(1))
        task.cancel()
        await asyncio.wait({task})
    store.gate.set()
    await first
    await commit.flush()
    assert len(store.stored()) == 1


async def test_a_write_is_bounded_in_jobs(store: Store, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_JOBS", 4)
    jobs = new_jobs(10)
    await asyncio.gather(*(commit.add(job) for job in jobs))
    assert [len(write) for write in store.writes] == [4, 4, 2]
    assert store.stored() == ids(jobs)


async def test_a_write_is_bounded_in_bytes(store: Store, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_BYTES", 10)
    jobs = [*new_jobs(3, size=4), *new_jobs(1, size=99), *new_jobs(2, size=5)]
    await asyncio.gather(*(commit.add(job) for job in jobs))
    assert [len(write) for write in store.writes] == [2, 1, 1, 2]
    assert store.stored() == ids(jobs)


def test_chunks_of_nothing_are_none() -> None:
    assert list(chunks([], len)) == []


def test_chunks_hold_up_to_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "CHUNK_BYTES", 4)
    assert list(chunks(["aa", "bb", "c", "ddddd", "", "e"], len)) == [["aa", "bb"], ["c"], ["ddddd"], ["", "e"]]


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_that_the_store_refuses_fails_alone(store: Store, commit: GroupCommit) -> None:
    jobs = new_jobs(5)
    poison = DispatchError("a row too long")
    store.refused = {jobs[2].job_id: poison}
    results = await asyncio.gather(*(commit.add(job) for job in jobs), return_exceptions=True)
    assert results == [*ids(jobs[:2]), poison, *ids(jobs[3:])]
    assert store.writes == [ids(jobs), *([job.job_id] for job in jobs)]


async def test_each_of_several_culprits_hears_of_its_own_error(store: Store, commit: GroupCommit) -> None:
    jobs = new_jobs(4)
    store.refused = {jobs[0].job_id: ValueError("first"), jobs[3].job_id: ValueError("last")}
    results = await asyncio.gather(*(commit.add(job) for job in jobs), return_exceptions=True)
    assert [str(each) for each in results] == ["first", *ids(jobs[1:3]), "last"]


async def test_a_lone_job_that_is_refused_is_not_tried_twice(store: Store, commit: GroupCommit) -> None:
    (job,) = new_jobs(1)
    store.refused = {job.job_id: ValueError("no")}
    with pytest.raises(ValueError, match="no"):
        await commit.add(job)
    assert len(store.writes) == 1


async def test_an_unavailable_store_fails_every_dispatch_after_one_write(store: Store, commit: GroupCommit) -> None:
    store.down = True
    results = await asyncio.gather(*(commit.add(job) for job in new_jobs(50)), return_exceptions=True)
    assert {type(each) for each in results} == {QueueUnavailableError}
    assert len(store.writes) == 1


async def test_a_store_that_is_back_is_written_to_again(store: Store, commit: GroupCommit) -> None:
    lost, later = new_jobs(2)
    store.down = True
    with pytest.raises(QueueUnavailableError):
        await commit.add(lost)
    store.down = False
    await commit.add(later)
    assert store.writes[-1] == [later.job_id]


async def test_a_failed_write_leaves_those_that_wait_for_the_next_alone(store: Store, commit: GroupCommit) -> None:
    store.gate.clear()
    failing, waiting = new_jobs(2)
    store.refused = {failing.job_id: ValueError("no")}
    tasks = [*await started(commit, [failing]), *await started(commit, [waiting])]
    store.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(each) for each in results] == ["no", waiting.job_id]


# ── cancellation ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [0, 1, 2], ids=["being written", "next", "last"])
async def test_cancelling_one_dispatch_neither_loses_nor_fails_the_others(
    store: Store, commit: GroupCommit, number: int
) -> None:
    store.gate.clear()
    jobs = new_jobs(3)
    tasks = [task for job in jobs for task in await started(commit, [job])]
    tasks[number].cancel()
    await turns()
    store.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    cancelled = [isinstance(each, asyncio.CancelledError) for each in results]
    assert cancelled == [index == number for index in range(3)]
    others = {job.job_id for index, job in enumerate(jobs) if index != number}
    assert others <= set(store.stored())


async def test_cancelling_the_dispatch_that_began_the_write_does_not_stop_it(store: Store, commit: GroupCommit) -> None:
    store.gate.clear()
    first, second = new_jobs(2)
    tasks = await started(commit, [first, second])
    tasks[0].cancel()
    store.gate.set()
    await tasks[1]
    assert store.writes == [[first.job_id, second.job_id]]


async def test_an_error_whose_dispatcher_is_gone_stays_quiet(store: Store, commit: GroupCommit) -> None:
    store.gate.clear()
    store.down = True
    (task,) = await started(commit, new_jobs(1))
    task.cancel()
    await asyncio.wait({task})
    store.gate.set()
    await commit.flush()
    store.down = False
    (job,) = new_jobs(1)
    await commit.add(job)
    assert store.writes[-1] == [job.job_id]


async def test_a_writer_that_is_cancelled_leaves_nobody_waiting_and_another_follows(
    store: Store, commit: GroupCommit
) -> None:
    store.gate.clear()
    tasks = [*await started(commit, new_jobs(1)), *await started(commit, new_jobs(2))]
    (writer,) = [each for each in asyncio.all_tasks() if each.get_name() == "group-commit"]
    writer.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results)
    store.gate.set()
    (job,) = new_jobs(1)
    await commit.add(job)
    assert store.writes[1:] == [[job.job_id]]


# ── flush ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_flush_waits_for_all_that_waits_beyond_the_limit_too(store: Store) -> None:
    commit = GroupCommit(store.push, limit=2)
    store.gate.clear()
    jobs = new_jobs(9)
    tasks = await started(commit, jobs)
    flush = asyncio.create_task(commit.flush())
    await turns()
    assert not flush.done()
    store.gate.set()
    await flush
    assert store.stored() == ids(jobs)
    await asyncio.gather(*tasks)


async def test_flush_with_nothing_to_write_returns(store: Store, commit: GroupCommit) -> None:
    await commit.flush()
    assert store.writes == []


async def test_a_cancelled_flush_leaves_the_write_alone(store: Store, commit: GroupCommit) -> None:
    store.gate.clear()
    (task,) = await started(commit, new_jobs(1))
    flush = asyncio.create_task(commit.flush())
    await turns()
    flush.cancel()
    await asyncio.wait({flush})
    store.gate.set()
    await task
