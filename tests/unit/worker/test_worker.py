"""The worker's loop: fetch, execute, record; options, stopping, and a store that goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

import pytest

from core.errors import (
    JobTimeoutError,
    MaxTriesExceededError,
    PermanentError,
    QueueUnavailableError,
)
from core.job import Job, job_name
from core.observability.events import (
    HookFailed,
    JobCompleted,
    JobFailed,
    JobReleased,
    JobRetried,
    JobsRescued,
    JobStarted,
    LeaseLost,
    StoreBack,
    StoreLost,
)
from core.queue.state import FetchedJob, NewJob
from tests.unit.worker.conftest import JOURNAL, PROMPT, Workshop


class Note(Job):
    text: str = ""

    async def handle(self) -> None:
        JOURNAL.append(self.text)


class InThread(Job):
    def handle(self) -> None:
        JOURNAL.append(threading.current_thread().name)


class Fails(Job):
    retry_after: float = 0
    message: str = "boom"

    async def handle(self) -> None:
        JOURNAL.append(self.attempts)
        raise ValueError(self.message)

    async def failed(self, exception: Exception) -> None:
        JOURNAL.append(("failed", str(exception), self.attempts, self.job_id))


class Waits(Job):
    started: ClassVar[asyncio.Event]
    go_on: ClassVar[asyncio.Event]

    def __init__(self) -> None:
        super().__init__()

    async def handle(self) -> None:
        Waits.running += 1
        Waits.started.set()
        try:
            await Waits.go_on.wait()
            JOURNAL.append("ended")
        finally:
            Waits.running -= 1

    running: ClassVar[int] = 0


@pytest.fixture(autouse=True)
def _fresh(journal: list[Any]) -> None:
    Waits.started, Waits.go_on, Waits.running = asyncio.Event(), asyncio.Event(), 0


async def _started() -> None:
    await asyncio.wait_for(Waits.started.wait(), PROMPT)


# ── running ──────────────────────────────────────────────────────────────────────────────────────────


async def test_runs_jobs_first_in_first_out(workshop: Workshop, journal: list[Any]) -> None:
    await workshop.dispatch(*(Note(text=str(n)) for n in range(20)))
    await workshop.work(concurrency=1)
    assert journal == [str(n) for n in range(20)]
    assert await workshop.manager.size("default") == 0
    assert len(workshop.of(JobCompleted)) == 20


async def test_a_job_knows_its_id_queue_and_attempts(workshop: Workshop, journal: list[Any]) -> None:
    class Knows(Job):
        async def handle(self) -> None:
            journal.append((self.job_id, self.queue, self.attempts))

    (job_id,) = await workshop.dispatch(Knows(), queue="emails")
    await workshop.work(queues="emails")
    assert journal == [(job_id, "emails", 1)]


async def test_a_plain_handle_runs_in_a_thread(workshop: Workshop, journal: list[Any]) -> None:
    await workshop.dispatch(InThread())
    await workshop.work()
    assert journal[0].startswith("job")


async def test_pitfall_26_jobs_run_side_by_side_up_to_concurrency(workshop: Workshop) -> None:
    await workshop.dispatch(*(Waits() for _ in range(7)))
    workshop.start(concurrency=4)
    await workshop.until(lambda: len(workshop.of(JobStarted)) == 4)
    assert (await workshop.driver.stats("default")).executing == 4
    Waits.go_on.set()
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 7)


async def test_pitfall_26_an_idle_worker_is_woken_by_a_dispatch(workshop: Workshop) -> None:
    workshop.start(sleep=3600)
    await workshop.dispatch(Note(text="first"))
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)
    await workshop.dispatch(Note(text="second"))
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 2)


async def test_an_idle_worker_stages_what_is_scheduled_meanwhile(workshop: Workshop) -> None:
    workshop.start(sleep=3600)
    await workshop.dispatch(Note(text="later"), delay=0.05)
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)


# ── tries ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_failing_job_is_tried_max_tries_times_and_then_recorded(workshop: Workshop, journal: list[Any]) -> None:
    (job_id,) = await workshop.dispatch(Fails())
    await workshop.work()
    await workshop.work()  # the retries are due at once, but --stop-when-empty may see them while they are not yet
    (row,) = await workshop.driver.failures.rows()
    assert journal == [1, 2, 3, ("failed", "boom", 3, job_id)]
    assert (row.job_id, row.attempts, row.queue) == (job_id, 3, "default")
    assert row.exception.startswith("Traceback") and "ValueError: boom" in row.exception
    assert "raise ValueError(self.message)" in row.exception


async def test_retry_after_delays_the_next_try(workshop: Workshop, journal: list[Any]) -> None:
    job = Fails()
    job.retry_after = 3600
    await workshop.dispatch(job)
    await workshop.work()
    assert journal == [1]
    assert (await workshop.driver.stats("default")).retryable == 1
    (event,) = workshop.of(JobRetried)
    assert event.retry_in == 3600


async def test_a_permanent_error_is_not_tried_again(workshop: Workshop) -> None:
    class Permanent(Job):
        async def handle(self) -> None:
            raise PermanentError("no such customer")

    await workshop.dispatch(Permanent())
    await workshop.work()
    (row,) = await workshop.driver.failures.rows()
    assert row.attempts == 1 and "no such customer" in row.exception


async def test_should_retry_says_no(workshop: Workshop, journal: list[Any]) -> None:
    class Picky(Fails):
        def should_retry(self, exception: Exception) -> bool:
            return not isinstance(exception, ValueError)

    await workshop.dispatch(Picky())
    await workshop.work()
    assert journal[0] == 1 and len(await workshop.driver.failures.rows()) == 1


async def test_should_retry_that_raises_counts_as_yes(workshop: Workshop, journal: list[Any]) -> None:
    class Broken(Fails):
        def should_retry(self, exception: Exception) -> bool:
            raise RuntimeError("in the hook")

    await workshop.dispatch(Broken())
    await workshop.work(max_tries=2)
    await workshop.work(max_tries=2)
    assert journal[:2] == [1, 2]


async def test_pitfall_20_a_try_counts_when_it_starts(workshop: Workshop) -> None:
    """A job that killed its worker `max_tries` times goes to failed_jobs without another start."""
    (job_id,) = await workshop.dispatch(Note(text="kills"))
    for _ in range(3):
        (fetched,) = await workshop.driver.fetch(["default"], 1, -1)
        assert await workshop.driver.rescue(["default"]) == 1
    assert fetched.attempts == 3
    await workshop.work()
    (row,) = await workshop.driver.failures.rows()
    assert row.job_id == job_id and MaxTriesExceededError.__name__ in row.exception
    assert JOURNAL == []


async def test_pitfall_27_the_timeout_cancels_the_coroutine_and_fails_the_try(workshop: Workshop) -> None:
    await workshop.dispatch(Waits())
    await workshop.work(timeout=0.05, max_tries=1)
    (event,) = workshop.of(JobFailed)
    assert isinstance(event.exception, JobTimeoutError) and "0.05 s" in str(event.exception)
    assert Waits.running == 0 and JOURNAL == []


async def test_pitfall_27_a_job_that_swallows_its_cancellation_has_timed_out_all_the_same(workshop: Workshop) -> None:
    class Stubborn(Job):
        async def handle(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

    await workshop.dispatch(Stubborn())
    await workshop.work(timeout=0.05, max_tries=1)
    (event,) = workshop.of(JobFailed)
    assert isinstance(event.exception, JobTimeoutError)


async def test_pitfall_27_a_thread_beyond_its_timeout_keeps_its_slot_until_it_returns(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    release, overlapping = threading.Event(), []

    class Slow(Job):
        timeout = 0.05

        def handle(self) -> None:
            overlapping.append(1)
            release.wait(PROMPT)

    (job_id,) = await workshop.dispatch(Slow())
    worker, _ = workshop.start(max_tries=1, concurrency=1)
    await workshop.until(lambda: len(workshop.of(JobStarted)) == 1)
    await asyncio.sleep(0.2)  # well beyond the timeout
    assert worker._executor._threads.running and not workshop.of(JobFailed)
    release.set()
    await workshop.until(lambda: len(workshop.of(JobFailed)) == 1)
    assert isinstance(workshop.of(JobFailed)[0].exception, JobTimeoutError)
    assert overlapping == [1]
    assert f"job {job_name(Slow)} {job_id} runs in a thread beyond its 0.05 s" in caplog.text


async def test_waiting_for_a_thread_does_not_count_towards_the_timeout(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the loop's clock that is put forward: real time may also pass, on a busy machine."""
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    loop, passed = asyncio.get_running_loop(), 0.0
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)

    class Quick(Job):
        timeout = 10.0

        def handle(self) -> None:
            begun.release()
            go_on.acquire(timeout=PROMPT)

    await workshop.dispatch(*(Quick() for _ in range(4)))
    workshop.start(threads=1)
    await workshop.until(lambda: len(workshop.of(JobStarted)) == 4)
    for done in range(1, 5):
        assert await asyncio.to_thread(begun.acquire, timeout=PROMPT)
        passed += 4.0
        go_on.release()
        await workshop.until(lambda done=done: len(workshop.of(JobCompleted)) == done)  # type: ignore[misc]


async def test_a_jobs_own_timeout_error_is_no_timeout_of_ours(workshop: Workshop) -> None:
    class Own(Job):
        async def handle(self) -> None:
            raise TimeoutError("of an HTTP client")

    await workshop.dispatch(Own())
    await workshop.work(max_tries=1)
    assert str(workshop.of(JobFailed)[0].exception) == "of an HTTP client"


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
async def test_a_job_that_exits_or_cancels_itself_fails_like_any_other(
    workshop: Workshop, error: BaseException
) -> None:
    class Exits(Job):
        async def handle(self) -> None:
            raise error

    await workshop.dispatch(Exits(), Note(text="next"))
    await workshop.work(max_tries=1, concurrency=1)
    assert len(workshop.of(JobFailed)) == 1 and JOURNAL == ["next"]


# ── whose word counts ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("flag", "own", "tries"), [(None, None, 3), (None, 2, 2), (1, 2, 1), (4, None, 4)])
async def test_a_flag_wins_over_the_job_and_the_job_over_the_default(
    workshop: Workshop, journal: list[Any], flag: int | None, own: int | None, tries: int
) -> None:
    job = Fails()
    if own is not None:
        job.max_tries = own
    await workshop.dispatch(job)
    for _ in range(tries):
        await workshop.work(max_tries=flag)
    assert journal[:-1] == list(range(1, tries + 1))


async def test_pitfall_33_settings_of_an_instance_travel_with_it(workshop: Workshop, journal: list[Any]) -> None:
    job = Fails()
    job.max_tries = 1
    await workshop.dispatch(job)
    await workshop.work()
    assert journal[0] == 1 and len(await workshop.driver.failures.rows()) == 1


async def test_an_option_that_is_no_number_fails_its_job_and_does_not_stop_the_worker(workshop: Workshop) -> None:
    class Odd(Job):
        @property
        def max_tries(self) -> Any:  # type: ignore[override]
            return "three"

        async def handle(self) -> None: ...

    await workshop.dispatch(Odd(), Note(text="next"))
    await workshop.work(concurrency=1)
    assert JOURNAL == ["next"] and len(await workshop.driver.failures.rows()) == 1


# ── what cannot be loaded ────────────────────────────────────────────────────────────────────────────


UNKNOWN_CLASS = b'{"v":1,"id":"a","job":"tests.Nope","queue":"q","dispatched_at":"2026-01-01T00:00:00Z","data":{}}'
DEEP = UNKNOWN_CLASS.replace(b"{}", b"[" * 5000)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff\xfe", b'{"v":1}', b'{"v":99,"id":"x"}', b"null", UNKNOWN_CLASS, DEEP],
    ids=lambda payload: repr(payload[:30]),
)
async def test_pitfall_29_what_cannot_be_loaded_is_recorded_as_it_is(workshop: Workshop, payload: bytes) -> None:
    await workshop.driver.push([NewJob("bad", "default", payload)])
    await workshop.dispatch(Note(text="next"))
    await workshop.work()
    (row,) = await workshop.driver.failures.rows()
    assert (row.job_id, row.payload, row.attempts) == ("bad", payload, 1)
    assert "Envelope" in row.exception or "UnknownJob" in row.exception
    assert JOURNAL == ["next"]


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────


async def test_pitfall_30_a_failed_hook_that_raises_changes_nothing(workshop: Workshop) -> None:
    class BadHook(Fails):
        async def failed(self, exception: Exception) -> None:
            rows = await workshop.driver.failures.rows()
            JOURNAL.append(f"{len(rows)} rows are stored by now")
            raise RuntimeError("in failed()")

    await workshop.dispatch(BadHook())
    await workshop.work(max_tries=1)
    assert JOURNAL == [1, "1 rows are stored by now"]
    assert len(await workshop.driver.failures.rows()) == 1
    assert str(workshop.of(HookFailed)[0].exception) == "in failed()"


async def test_a_failed_hook_may_be_no_coroutine(workshop: Workshop) -> None:
    class PlainHook(Fails):
        def failed(self, exception: Exception) -> None:  # type: ignore[override]
            JOURNAL.append("failed")

    await workshop.dispatch(PlainHook())
    await workshop.work(max_tries=1)
    assert JOURNAL == [1, "failed"]


# ── options that end a worker ────────────────────────────────────────────────────────────────────────


async def test_max_jobs_runs_so_many_and_leaves_the_rest(workshop: Workshop, journal: list[Any]) -> None:
    await workshop.dispatch(*(Note(text=str(n)) for n in range(5)))
    await workshop.work(max_jobs=2, stop_when_empty=False)
    assert journal == ["0", "1"]
    stats = await workshop.driver.stats("default")
    assert (stats.available, stats.executing) == (3, 0)


async def test_max_jobs_1_max_tries_1_runs_one_job_once(workshop: Workshop, journal: list[Any]) -> None:
    await workshop.dispatch(Fails(), Fails())
    await workshop.work(max_jobs=1, max_tries=1, stop_when_empty=False)
    assert journal[0] == 1 and len(journal) == 2
    assert await workshop.manager.size("default") == 1


async def test_max_time_ends_an_idle_worker(workshop: Workshop) -> None:
    await workshop.work(max_time=0.05, stop_when_empty=False)


async def test_memory_ends_a_worker_that_has_grown(workshop: Workshop) -> None:
    await workshop.work(memory=1, stop_when_empty=False)


async def test_stop_when_empty_waits_for_what_others_execute(workshop: Workshop) -> None:
    await workshop.dispatch(Note(text="elsewhere"))
    (fetched,) = await workshop.driver.fetch(["default"], 1, 60)
    _, task = workshop.start(stop_when_empty=True)
    await asyncio.sleep(0.1)
    assert not task.done()
    await workshop.driver.complete([fetched.lease])
    await asyncio.wait_for(task, PROMPT)


async def test_strict_order_of_queues(workshop: Workshop, journal: list[Any]) -> None:
    for n in range(3):
        await workshop.dispatch(Note(text=f"b{n}"), queue="b")
        await workshop.dispatch(Note(text=f"a{n}"), queue="a")
    await workshop.work(queues="a,b", concurrency=1)
    assert journal == ["a0", "a1", "a2", "b0", "b1", "b2"]


async def test_pitfall_32_weights_let_no_queue_starve(workshop: Workshop, journal: list[Any]) -> None:
    await workshop.dispatch(*(Note(text="a") for _ in range(300)), queue="a")
    await workshop.dispatch(*(Note(text="b") for _ in range(300)), queue="b")
    await workshop.work(queues="a=3,b=1", concurrency=1, max_jobs=200, stop_when_empty=False)
    assert 20 <= journal.count("b") <= 90  # 50 expected; 5 standard deviations are 31


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────


async def test_stop_lets_running_jobs_end_and_fetches_no_more(workshop: Workshop, journal: list[Any]) -> None:
    await workshop.dispatch(Waits(), Waits())
    worker, task = workshop.start(concurrency=1)
    await _started()
    worker.stop()
    Waits.go_on.set()
    await asyncio.wait_for(task, PROMPT)
    assert journal == ["ended"]
    assert (await workshop.driver.stats("default")).available == 1


async def test_what_does_not_end_within_the_grace_is_handed_back_untried(workshop: Workshop) -> None:
    await workshop.dispatch(Waits())
    worker, task = workshop.start(grace=0.05)
    await _started()
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert len(workshop.of(JobReleased)) == 1 and Waits.running == 0
    (fetched,) = await workshop.driver.fetch(["default"], 1, 1)
    assert fetched.attempts == 1


async def test_a_second_stop_hands_back_at_once(workshop: Workshop) -> None:
    await workshop.dispatch(Waits())
    worker, task = workshop.start(grace=3600)
    await _started()
    worker.stop()
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert (await workshop.driver.stats("default")).available == 1


async def test_pitfall_28_an_idle_worker_stops_at_once(workshop: Workshop) -> None:
    worker, task = workshop.start(sleep=3600)
    await asyncio.sleep(0)
    worker.stop()
    await asyncio.wait_for(task, PROMPT)


async def test_the_thread_of_an_abandoned_job_keeps_its_lease(workshop: Workshop) -> None:
    """It cannot be stopped: given back, it would run beside itself."""
    release = threading.Event()

    class Slow(Job):
        def handle(self) -> None:
            release.wait(PROMPT)

    await workshop.dispatch(Slow())
    worker, task = workshop.start(grace=0)
    await workshop.until(lambda: len(workshop.of(JobStarted)) == 1)
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert worker._executor._threads.running
    stats = await workshop.driver.stats("default")
    assert (stats.executing, stats.available) == (1, 0)
    release.set()


async def test_jobs_fetched_while_the_worker_is_stopped_are_not_forgotten(workshop: Workshop) -> None:
    """The fetch was under way: its jobs are leased, and must end or go back."""
    fetch, reached, go_on = workshop.driver.fetch, asyncio.Event(), asyncio.Event()

    async def slow_fetch(queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        jobs = await fetch(queues, limit, lease)
        reached.set()
        await go_on.wait()
        return jobs

    workshop.driver.fetch = slow_fetch  # type: ignore[method-assign]
    await workshop.dispatch(Note(text="in between"))
    worker, task = workshop.start()
    await reached.wait()
    worker.stop()
    await asyncio.sleep(0.25)  # longer than the worker waits before it insists
    go_on.set()
    await asyncio.wait_for(task, PROMPT)
    assert JOURNAL == ["in between"] and await workshop.manager.size("default") == 0


async def test_a_fetch_that_gets_no_answer_keeps_the_worker_no_longer_than_its_grace(workshop: Workshop) -> None:
    reached = _never_answers(workshop, "fetch")
    worker, task = workshop.start(grace=0.01)
    await reached.wait()
    worker.stop()
    await asyncio.wait_for(task, PROMPT)


async def test_a_fetch_that_gets_no_answer_does_not_hold_up_a_second_stop(workshop: Workshop) -> None:
    reached = _never_answers(workshop, "fetch")
    worker, task = workshop.start(grace=3600)
    await reached.wait()
    worker.stop()
    worker.stop()
    await asyncio.wait_for(task, PROMPT)


def _never_answers(workshop: Workshop, verb: str) -> asyncio.Event:
    """Set once it was asked."""
    reached = asyncio.Event()

    async def silent(*_: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    setattr(workshop.driver, verb, silent)
    return reached


# ── leases ───────────────────────────────────────────────────────────────────────────────────────────


async def test_leases_are_renewed_while_a_job_runs(workshop: Workshop) -> None:
    beats = asyncio.Semaphore(0)
    renew = workshop.driver.renew

    async def counted(*args: Any) -> Any:
        beats.release()
        return await renew(*args)

    workshop.driver.renew = counted  # type: ignore[method-assign, assignment]
    await workshop.dispatch(Waits())
    workshop.start(lease=0.3)
    await _started()
    for _ in range(6):
        await asyncio.wait_for(beats.acquire(), PROMPT)
    assert await workshop.driver.rescue(["default"]) == 0
    Waits.go_on.set()
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)
    assert len(workshop.of(JobStarted)) == 1


async def test_pitfall_18_a_lost_lease_cancels_the_job_and_its_outcome_changes_nothing(workshop: Workshop) -> None:
    await workshop.dispatch(Waits())
    worker, _ = workshop.start(lease=0.3, concurrency=1)
    await _started()
    (lost,) = worker._running
    await workshop.driver.renew([lost], -1)
    await workshop.driver.rescue(["default"])
    (fetched,) = await workshop.driver.fetch(["default"], 1, 60)  # by another worker
    await workshop.until(lambda: len(workshop.of(LeaseLost)) == 1)
    assert Waits.running == 0
    assert await workshop.driver.complete([fetched.lease]) == set()


async def test_what_was_fetched_too_long_ago_is_not_started(workshop: Workshop) -> None:
    """The worker was stopped by SIGSTOP, or its machine suspended, while the answer was on its way."""
    lease = 0.2
    theirs = []

    async def taken_over() -> None:
        theirs.extend(await workshop.driver.fetch(["default"], 1, 60))

    _delay_first_answer(workshop, lease, taken_over)
    await workshop.dispatch(Note(text="theirs"))
    workshop.start(lease=lease)
    await workshop.until(lambda: len(workshop.of(LeaseLost)) == 1)
    assert JOURNAL == [] and workshop.of(JobStarted) == []
    assert await workshop.driver.complete([each.lease for each in theirs]) == set()


async def test_what_was_fetched_too_long_ago_goes_back_where_nobody_has_taken_it_over(workshop: Workshop) -> None:
    lease = 0.2

    async def nobody() -> None: ...

    _delay_first_answer(workshop, lease, nobody)
    await workshop.dispatch(Note(text="ours"))
    workshop.start(lease=lease)
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)
    assert JOURNAL == ["ours"]
    kinds = [type(event) for event in workshop.seen if isinstance(event, JobReleased | LeaseLost | JobStarted)]
    assert kinds[0] is not JobStarted


def _delay_first_answer(workshop: Workshop, lease: float, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Let the lease of what is fetched first run out, and something else happen, before the worker hears of it."""
    fetch = workshop.driver.fetch

    async def late(queues: Sequence[str], limit: int, lease: float) -> list[FetchedJob]:
        jobs = await fetch(queues, limit, lease)
        if jobs:
            workshop.driver.fetch = fetch  # type: ignore[method-assign]
            await workshop.driver.renew([each.lease for each in jobs], -1)
            await workshop.driver.rescue(["default"])
            await meanwhile()
            await asyncio.sleep(lease)
        return jobs

    workshop.driver.fetch = late  # type: ignore[method-assign]


async def test_a_dead_workers_jobs_are_rescued_without_new_traffic(workshop: Workshop) -> None:
    await workshop.dispatch(Note(text="rescued"))
    await workshop.driver.fetch(["default"], 1, 0.05)
    workshop.start(lease=0.1, sleep=3600)
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)
    assert JOURNAL == ["rescued"] and workshop.of(JobsRescued)[0].count == 1


# ── a store that goes away ───────────────────────────────────────────────────────────────────────────


async def test_pitfall_31_failing_to_report_success_is_no_failure_of_the_job(workshop: Workshop) -> None:
    complete, troubles = workshop.driver.complete, 3

    async def unreliable(leases: Any) -> Any:
        nonlocal troubles
        troubles -= 1
        if troubles >= 0:
            raise QueueUnavailableError("the store is away")
        return await complete(leases)

    workshop.driver.complete = unreliable  # type: ignore[method-assign]
    await workshop.dispatch(Note(text="once"))
    await workshop.work()
    assert JOURNAL == ["once"] and len(workshop.of(JobCompleted)) == 1
    assert (len(workshop.of(StoreLost)), len(workshop.of(StoreBack))) == (1, 1)
    assert not await workshop.driver.failures.rows()


async def test_an_outcome_that_the_store_refuses_spoils_no_other(workshop: Workshop) -> None:
    complete = workshop.driver.complete

    async def picky(leases: Any) -> Any:
        if any(lease.job_id == culprit for lease in leases):
            raise ValueError("refused")
        return await complete(leases)

    workshop.driver.complete = picky  # type: ignore[method-assign]
    culprit, *_ = await workshop.dispatch(Note(text="1"), Note(text="2"), Note(text="3"))
    worker, task = workshop.start()
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 2)
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert (await workshop.driver.stats("default")).executing == 1  # until its lease runs out


@pytest.mark.parametrize("verb", ["fetch", "stage", "rescue", "renew"])
async def test_every_service_outlives_a_store_that_is_away(workshop: Workshop, verb: str) -> None:
    original, troubles = getattr(workshop.driver, verb), 2

    async def unreliable(*args: Any, **options: Any) -> Any:
        nonlocal troubles
        troubles -= 1
        if troubles >= 0:
            raise QueueUnavailableError("the store is away")
        return await original(*args, **options)

    setattr(workshop.driver, verb, unreliable)
    workshop.start(lease=1.5)
    await workshop.dispatch(Waits())
    await _started()
    await workshop.until(lambda: bool(workshop.of(StoreBack)))
    Waits.go_on.set()
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)


# ── what users' code may do ──────────────────────────────────────────────────────────────────────────


async def test_a_job_that_cancels_itself_has_failed(workshop: Workshop) -> None:
    class CancelsItself(Job):
        retry_after: float = 0

        async def handle(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    await workshop.dispatch(CancelsItself())
    await workshop.work(max_tries=2)
    assert len(workshop.of(JobStarted)) == 2 and len(workshop.of(JobFailed)) == 1


def _quietly(function: Any) -> Any:
    """A decorator that hides that what it decorates is a coroutine function."""

    def call(*args: Any) -> Any:
        return function(*args)

    return call


async def test_a_decorated_coroutine_is_awaited(workshop: Workshop, journal: list[Any]) -> None:
    class Decorated(Job):
        @_quietly
        async def handle(self) -> None:
            journal.append("ran")

    await workshop.dispatch(Decorated())
    await workshop.work()
    assert journal == ["ran"]


async def test_a_decorated_coroutine_has_its_timeout(workshop: Workshop) -> None:
    class Decorated(Job):
        @_quietly
        async def handle(self) -> None:
            await asyncio.Event().wait()

    await workshop.dispatch(Decorated())
    await workshop.work(timeout=0.05, max_tries=1)
    assert isinstance(workshop.of(JobFailed)[0].exception, JobTimeoutError)


async def test_a_handle_with_yield_fails_instead_of_counting_as_done(workshop: Workshop) -> None:
    class Yields(Job):
        def handle(self) -> Any:
            yield 1

    await workshop.dispatch(Yields())
    await workshop.work(max_tries=1)
    assert "yield" in str(workshop.of(JobFailed)[0].exception)


class Panic(BaseException):
    """As extensions in Rust raise it."""


@pytest.mark.parametrize("error", [StopIteration(), Panic("at the disco"), KeyboardInterrupt(), SystemExit(1)])
async def test_whatever_a_thread_raises_is_a_failed_try(workshop: Workshop, error: BaseException) -> None:
    class Raises(Job):
        def handle(self) -> None:
            raise error

    await workshop.dispatch(Raises(), Note(text="next"))
    await workshop.work(max_tries=1, concurrency=1)
    assert len(workshop.of(JobFailed)) == 1
    assert JOURNAL == ["next"]


async def test_whatever_a_coroutine_raises_is_a_failed_try(workshop: Workshop) -> None:
    class Raises(Job):
        async def handle(self) -> None:
            raise Panic

    await workshop.dispatch(Raises(), Note(text="next"))
    await workshop.work(max_tries=1, concurrency=1)
    assert len(workshop.of(JobFailed)) == 1
    assert JOURNAL == ["next"]


async def test_what_a_library_makes_of_our_cancellation_is_no_failed_try(workshop: Workshop) -> None:
    class Translates(Waits):
        async def handle(self) -> None:
            try:
                await super().handle()
            except asyncio.CancelledError:
                raise ConnectionError("interrupted") from None

    await workshop.dispatch(Translates())
    worker, task = workshop.start(grace=0.05, max_tries=1)
    await _started()
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert len(workshop.of(JobReleased)) == 1
    assert not workshop.of(JobFailed)


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), Panic()])
async def test_a_hook_may_raise_whatever_it_likes(workshop: Workshop, error: BaseException) -> None:
    class BadHook(Fails):
        async def failed(self, exception: Exception) -> None:
            raise error

    await workshop.dispatch(BadHook(), Note(text="next"))
    await workshop.work(max_tries=1, concurrency=1)
    assert len(workshop.of(HookFailed)) == 1
    assert JOURNAL == [1, "next"]


async def test_hooks_are_bounded_by_the_slots(workshop: Workshop) -> None:
    running, go_on = asyncio.Semaphore(0), asyncio.Event()

    class SlowHook(Fails):
        async def failed(self, exception: Exception) -> None:
            running.release()
            await go_on.wait()

    await workshop.dispatch(*(SlowHook() for _ in range(10)))
    workshop.start(max_tries=1, concurrency=3)
    for _ in range(3):
        await asyncio.wait_for(running.acquire(), PROMPT)
    assert len(workshop.of(JobStarted)) == 3
    go_on.set()
    await workshop.until(lambda: len(workshop.of(JobFailed)) == 10)


async def test_a_hook_that_outlasts_the_grace_is_cut_short_and_told_of(workshop: Workshop) -> None:
    class SlowHook(Fails):
        async def failed(self, exception: Exception) -> None:
            await asyncio.Event().wait()

    await workshop.dispatch(SlowHook())
    worker, task = workshop.start(max_tries=1, grace=0.05)
    await workshop.until(lambda: len(workshop.of(JobFailed)) == 1)
    worker.stop()
    await asyncio.wait_for(task, PROMPT)
    assert isinstance(workshop.of(HookFailed)[0].exception, asyncio.CancelledError)


def _lose_the_first_answer(workshop: Workshop, verb: str) -> None:
    """What it asks for happens all the same."""
    original, answers = getattr(workshop.driver, verb), 0

    async def answer_lost_once(items: Any) -> Any:
        nonlocal answers
        stale = await original(items)
        answers += 1
        if answers == 1:
            raise QueueUnavailableError("the answer got lost")
        return stale

    setattr(workshop.driver, verb, answer_lost_once)


async def test_a_failure_whose_answer_was_lost_still_has_its_hook(workshop: Workshop) -> None:
    _lose_the_first_answer(workshop, "fail")
    await workshop.dispatch(Fails())
    await workshop.work(max_tries=1)
    assert JOURNAL[1][0] == "failed"
    assert len(workshop.of(JobFailed)) == 1
    assert not workshop.of(LeaseLost)


async def test_a_completion_whose_answer_was_lost_is_told_as_such(workshop: Workshop, journal: list[Any]) -> None:
    _lose_the_first_answer(workshop, "complete")
    await workshop.dispatch(Note(text="once"))
    await workshop.work()
    assert journal == ["once"]
    assert len(workshop.of(JobCompleted)) == 1 and not workshop.of(LeaseLost)


async def test_a_late_failure_holds_nothing_up_while_failed_jobs_is_away(workshop: Workshop) -> None:
    async def stale(failures: Any) -> Any:
        return {lease.job_id for lease, _ in failures}

    async def away(key: str) -> Any:
        raise QueueUnavailableError("the database is away")

    workshop.driver.fail = stale  # type: ignore[method-assign]
    workshop.driver.failures.find = away  # type: ignore[method-assign]
    await workshop.dispatch(Fails())
    workshop.start(max_tries=1)
    await workshop.until(lambda: len(workshop.of(LeaseLost)) == 1)
    await workshop.dispatch(Note())
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)


async def test_a_retry_is_started_when_it_is_due_whatever_sleep_says(workshop: Workshop, journal: list[Any]) -> None:
    job = Fails()
    job.retry_after = 0.1
    await workshop.dispatch(job)
    workshop.start(sleep=3600, max_tries=2)
    await workshop.until(lambda: len(workshop.of(JobFailed)) == 1)
    assert journal[:2] == [1, 2]


async def test_the_first_signal_after_max_time_still_leaves_the_grace(workshop: Workshop) -> None:
    await workshop.dispatch(Waits())
    worker, task = workshop.start(max_time=0.05)
    await _started()
    await asyncio.sleep(0.1)
    worker.stop()
    Waits.go_on.set()
    await asyncio.wait_for(task, PROMPT)
    assert len(workshop.of(JobCompleted)) == 1


@pytest.mark.parametrize(("verb", "lease"), [("fetch", 15), ("stage", 15), ("rescue", 1.5), ("renew", 3)])
async def test_an_unforeseen_error_of_the_store_ends_no_service(workshop: Workshop, verb: str, lease: float) -> None:
    original, calls, again = getattr(workshop.driver, verb), 0, asyncio.Event()

    async def unforeseen(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("nobody foresaw this")
        again.set()
        return await original(*args, **options)

    setattr(workshop.driver, verb, unforeseen)
    _, task = workshop.start(lease=lease)
    await workshop.dispatch(Waits())
    await _started()
    await asyncio.wait_for(again.wait(), PROMPT)
    Waits.go_on.set()
    await workshop.until(lambda: len(workshop.of(JobCompleted)) == 1)
    assert not task.done()
