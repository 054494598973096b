"""`execution = "process"`: jobs in child processes that can be killed one by one."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from core.errors import JobProcessDiedError, JobProcessRaisedError, JobTimeoutError
from core.job import Job
from core.observability.events import JobCompleted, JobFailed, JobReleased, JobRetried
from core.queue.envelope import write_envelope
from core.queue.job_id import new_job_id
from core.queue.state import FetchedJob
from core.queue.worker import job_process, process_pool, process_question
from core.queue.worker.limits import Limits
from core.queue.worker.process_pool import ProcessPool
from core.queue.worker.process_wire import Setup
from core.tasks import cancel_for_stop
from tests.integration.process_app.jobs import work
from tests.integration.worker.conftest import PROMPT, Line, Plant
from tests.servers.guardian import guardian


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def until_dead(*pids: int) -> None:
    """The test's own time limit ends it."""
    while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110, nobody announces the end of another's child
        await asyncio.sleep(0.01)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "job_process_role" in " ".join(child.cmdline())}


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_runs_in_a_child_process_async_or_not(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Report(line=plant.line), work.ReportAsync(line=plant.line))
    plant.start()
    pids = {int(await line.answered()), int(await line.answered())}
    await plant.until(lambda: len(plant.of(JobCompleted)) == 2)
    assert os.getpid() not in pids and pids <= children()


async def test_a_decorated_coroutine_is_awaited(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.ReportDecorated(line=plant.line))
    plant.start(max_tries=1)
    assert int(await line.answered()) in children()


async def test_no_process_is_started_before_a_job_needs_one(plant: Plant, line: Line) -> None:
    before = children()
    plant.start()
    await plant.dispatch(work.HandleHere(line=plant.line))
    await line.answered()
    assert children() == before


async def test_a_job_knows_its_id_queue_and_attempts(plant: Plant, line: Line) -> None:
    (job_id,) = await plant.dispatch(work.Knows(line=plant.line))
    plant.start()
    assert await line.answered() == f"{job_id} default 1"


async def test_as_many_run_side_by_side_as_there_are_processes(plant: Plant, line: Line) -> None:
    await plant.dispatch(*(work.Report(line=plant.line) for _ in range(3)))
    plant.start()
    two = {await line.heard(), await line.heard()}
    assert len(two) == 2
    await line.answer()
    assert await line.answered() in two
    await line.answer()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 3)


@pytest.mark.parametrize("plant_settings", [{"processes": 1, "process_max_jobs": 2}])
async def test_a_process_is_replaced_after_so_many_jobs(plant: Plant, line: Line) -> None:
    await plant.dispatch(*(work.Report(line=plant.line) for _ in range(5)))
    plant.start()
    pids = [int(await line.answered()) for _ in range(5)]
    await plant.until(lambda: len(plant.of(JobCompleted)) == 5)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]
    await until_dead(pids[0], pids[2])


async def test_processes_end_with_the_worker(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Report(line=plant.line))
    plant.start()
    pid = int(await line.answered())
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)
    await plant.stop()
    assert not is_alive(pid)


@pytest.mark.parametrize("job", [work.Dispatches, work.DispatchesFromThread])
async def test_a_job_in_a_process_dispatches(plant: Plant, line: Line, job: type[work.InProcess]) -> None:
    await plant.dispatch(job(line=plant.line))
    plant.start()
    await line.answered()
    await plant.until(lambda: len(plant.of(JobCompleted)) >= 2)
    assert not plant.of(JobFailed)


# ── failing ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_job_raises_is_recorded_with_the_childs_traceback(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Raises(line=plant.line))
    plant.start(max_tries=2)
    assert [await line.answered(), await line.answered()] == ["try 1", "try 2"]
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    (failed,) = plant.of(JobFailed)
    assert isinstance(failed.exception, JobProcessRaisedError)
    assert str(failed.exception) == r"TwoArguments: this and that \udcff"
    (row,) = await plant.app.failures.rows()
    assert "raise {\n" in row.exception and "in handle" in row.exception
    assert row.exception.rstrip().endswith(r"TwoArguments: this and that \udcff")
    assert "process_pool.py" not in row.exception


async def test_a_permanent_error_is_not_tried_again(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Raises(line=plant.line, kind="permanent"))
    plant.start()
    await line.answered()
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    assert not plant.of(JobRetried)


@pytest.mark.parametrize("kind", ["exit", "cancelled"])
async def test_a_job_that_exits_or_cancels_itself_fails_and_its_process_lives_on(
    plant: Plant, line: Line, kind: str
) -> None:
    await plant.dispatch(work.Raises(line=plant.line, kind=kind))
    plant.start(max_tries=1)
    await line.answered()
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    before = children()
    await plant.dispatch(work.Report(line=plant.line))
    assert int(await line.answered()) in before


@pytest.mark.parametrize("retry", [True, False])
async def test_should_retry_is_asked_in_the_child(plant: Plant, retry: bool) -> None:
    await plant.dispatch(work.Choosy(line=plant.line, retry=retry))
    plant.start(max_tries=2)
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    assert len(plant.of(JobRetried)) == retry


# ── dying ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kill", "was killed by SIGKILL"),
        ("exit", "ended with exit code 7"),
        ("segfault", "was killed by SIGSEGV"),
        ("hang up", "ended with exit code 1"),
    ],
)
@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_process_that_dies_fails_that_try_and_is_replaced(
    plant: Plant, line: Line, how: str, said: str
) -> None:
    await plant.dispatch(work.Dies(line=plant.line, how=how))
    plant.start(max_tries=2)
    pids = [int(await line.answered()), int(await line.answered())]
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    (retried,), (failed,) = plant.of(JobRetried), plant.of(JobFailed)
    for event, pid in zip((retried, failed), pids, strict=True):
        assert isinstance(event.exception, JobProcessDiedError)
        assert f"the job's process {pid} {said}" in str(event.exception)
    assert not any(is_alive(pid) for pid in pids)
    await plant.dispatch(work.Report(line=plant.line))
    await line.answered()


async def test_a_fork_that_outlives_its_process_does_not_hide_its_end(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Leaves(line=plant.line))
    plant.start(max_tries=1)
    await line.heard()
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    assert "exit code 7" in str(plant.of(JobFailed)[0].exception)


async def test_pitfall_27_a_time_limit_kills_that_process_and_only_that_one(plant: Plant, line: Line) -> None:
    endless = work.Endless(line=plant.line)
    endless.timeout = 1.5
    await plant.dispatch(work.Report(line=plant.line))
    plant.start(max_tries=1)
    other = int(await line.heard())
    await plant.dispatch(endless)
    pid, grandchild = map(int, (await line.heard()).split())
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    assert isinstance(plant.of(JobFailed)[0].exception, JobTimeoutError)
    await until_dead(pid, grandchild)
    assert is_alive(other)
    await line.answer()  # to the dead
    await line.answer()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_waiting_for_a_process_does_not_count_towards_the_timeout(plant: Plant, line: Line) -> None:
    await plant.dispatch(*(work.Report(line=plant.line) for _ in range(3)))
    plant.start(timeout=2, max_tries=1)
    for _ in range(3):
        await line.heard()
        await asyncio.sleep(1)
        await line.answer()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 3)


async def test_a_process_that_dies_without_a_job_is_told_of_and_replaced(
    plant: Plant, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    await plant.dispatch(work.Report(line=plant.line))
    plant.start()
    pid = int(await line.answered())
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)
    os.kill(pid, signal.SIGKILL)
    await until_dead(pid)
    await plant.dispatch(work.Report(line=plant.line))
    assert int(await line.answered()) != pid
    await plant.until(lambda: len(plant.of(JobCompleted)) == 2)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [f"the process {pid} for jobs was killed by SIGKILL; another takes its place"]


async def test_a_job_that_does_not_end_within_the_grace_is_killed_and_handed_back(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Endless(line=plant.line))
    plant.start(grace=0)
    pid, grandchild = map(int, (await line.heard()).split())
    await plant.stop()
    assert len(plant.of(JobReleased)) == 1
    await until_dead(pid, grandchild)
    assert (await plant.app.queues.stats()).available == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_that_stop_programs_do_not_reach_the_job(
    plant: Plant, line: Line, number: signal.Signals
) -> None:
    await plant.dispatch(work.Report(line=plant.line))
    plant.start()
    pid = int(await line.heard())
    assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C goes to the terminal's process group
    os.kill(pid, number)
    await line.answer()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)


class Record(logging.Handler):
    """The first line of a log that has these words in it, to be waited for."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._words = words

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if self._words in line and not self.line.done():
            self.line.set_result(line)


@pytest.fixture
async def start_failure() -> AsyncIterator[asyncio.Future[str]]:
    """What the log says of the first process that cannot be started."""
    log, record = logging.getLogger("routemq.queue.worker"), Record("cannot start a process for jobs")
    log.addHandler(record)
    yield record.line
    log.removeHandler(record)


async def test_a_process_that_cannot_be_started_is_no_fault_of_the_job(
    plant: Plant, line: Line, monkeypatch: pytest.MonkeyPatch, start_failure: asyncio.Future[str]
) -> None:
    await plant.dispatch(work.Report(line=plant.line))
    with monkeypatch.context() as ending:
        ending.setattr(job_process, "PROGRAM", "raise SystemExit(4)")
        plant.start(max_tries=1)
        assert "ended with exit code 4" in await asyncio.wait_for(start_failure, PROMPT)
    await line.answered()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_process_that_hangs_at_its_start_is_killed_and_started_anew(
    plant: Plant, line: Line, monkeypatch: pytest.MonkeyPatch, start_failure: asyncio.Future[str]
) -> None:
    await plant.dispatch(work.Report(line=plant.line))
    with monkeypatch.context() as hanging:
        hanging.setattr(job_process, "PROGRAM", "import time; time.sleep(1e6)")
        hanging.setattr(process_question, "START_TIMEOUT", 0.2)
        plant.start(max_tries=1)
        said = await asyncio.wait_for(start_failure, PROMPT)
    found = re.search(r"process (\d+) .* the app's jobs within 0.2 s, and was killed; trying again in", said)
    assert found, said
    assert not is_alive(int(found[1]))
    await line.answered()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)


READY_AND_NONSENSE = """
import socket, sys, time
sys.path[:] = sys.argv[3:]
from core.queue.worker.process_wire import Ready, frame
socket.socket(fileno=int(sys.argv[2])).recv(1)
socket.socket(fileno=int(sys.argv[1])).sendall(frame(Ready()) + bytes([0, 0, 0, 1, 0xC1]))
time.sleep(1e6)
"""


async def test_a_process_that_is_killed_as_soon_as_it_is_ready_has_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_process, "PROGRAM", READY_AND_NONSENSE)
    with pytest.raises(JobProcessDiedError, match=r"the job's process \d+ was killed by SIGKILL"):
        await job_process.JobProcess.start(Setup(b""))


async def test_an_idle_process_that_closes_its_socket_is_killed_and_told_of(
    plant: Plant, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    await plant.dispatch(work.StopsTalkingLater(line=plant.line))
    plant.start()
    pid = int(await line.heard())
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)
    await line.answer()
    await until_dead(pid)
    await plant.dispatch(work.Report(line=plant.line))
    assert int(await line.answered()) != pid
    assert f"the process {pid} for jobs was killed by SIGKILL; another takes its place" in caplog.messages


ORPHAN = """
import asyncio, sys
from core.application import Application
from core.queue.worker.options import WorkerOptions
from core.queue.worker.queue_order import QueueOrder

async def main():
    async with Application() as app:
        await app.worker(WorkerOptions(QueueOrder(("default",)))).run()

asyncio.run(main())
"""


async def test_processes_end_with_their_worker_however_it_ends(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Endless(line=plant.line))
    settings = plant.app.settings
    env = os.environ | {"APP_PACKAGE": settings.app.package, "DATABASE_URL": settings.database.url}
    with subprocess.Popen([sys.executable, "-c", ORPHAN], env=env) as worker:  # noqa: ASYNC220
        guardian().watch(worker.pid)
        try:
            pid, grandchild = map(int, (await line.heard()).split())
        finally:
            worker.kill()
            guardian().forget(worker.pid)
    await until_dead(pid, grandchild)


# ── jobs ahead ───────────────────────────────────────────────────────────────────────────────────────────
# The first is heard of once the one process runs it; by then it has the others ahead.


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_time_limit_does_not_touch_what_lies_ahead(plant: Plant, line: Line) -> None:
    endless = work.Endless(line=plant.line)
    endless.timeout = 5.0  # it must have started its grandchild by then
    await plant.dispatch(endless, *(work.Knows(line=plant.line) for _ in range(2)))
    plant.start()
    pid, _ = map(int, (await line.heard()).split())
    assert [(await line.answered()).split()[2] for _ in range(2)] == ["1", "1"]
    await plant.until(lambda: len(plant.of(JobCompleted)) == 2)
    assert not is_alive(pid)
    assert [type(each.exception) for each in plant.of(JobRetried)] == [JobTimeoutError]


@pytest.mark.parametrize("how", ["kill", "exit", "segfault", "hang up"])
@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_death_does_not_touch_what_lies_ahead(plant: Plant, line: Line, how: str) -> None:
    dying, *ahead = await plant.dispatch(
        work.Dies(line=plant.line, how=how), *(work.Knows(line=plant.line) for _ in range(2))
    )
    plant.start()
    await line.answered()
    assert [await line.answered() for _ in range(2)] == [f"{each} default 1" for each in ahead]
    await line.heard()
    assert [each.job_id for each in plant.of(JobRetried)] == [dying]
    assert "work.Dies (try 1): the job's process" in str(plant.of(JobRetried)[0].exception)


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_process_that_closed_its_socket_is_killed_and_what_lies_ahead_runs(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.StopsTalking(line=plant.line), work.Knows(line=plant.line))
    plant.start(max_tries=1)
    pid = int(await line.answered())
    assert (await line.answered()).endswith(" 1")
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)
    assert not is_alive(pid)
    (failed,) = plant.of(JobFailed)
    assert isinstance(failed.exception, JobProcessDiedError) and "work.StopsTalking" in str(failed.exception)


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_what_lies_ahead_is_handed_back_unstarted_at_the_end_of_the_grace(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Endless(line=plant.line), *(work.Report(line=plant.line) for _ in range(2)))
    plant.start(grace=0)
    pid, _ = map(int, (await line.heard()).split())
    await plant.stop()
    assert len(plant.of(JobReleased)) == 3
    await until_dead(pid)
    assert (await plant.app.queues.stats()).available == 3
    assert line.is_silent


async def test_an_idle_process_takes_what_lies_ahead_of_another(plant: Plant, line: Line) -> None:
    await plant.dispatch(*(work.Report(line=plant.line) for _ in range(8)))
    plant.start()
    held, other = await line.heard(), await line.heard()
    await line.answer()
    assert [await line.answered() for _ in range(6)] == [other] * 6
    await plant.until(lambda: len(plant.of(JobCompleted)) == 7)
    await line.answer()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 8)
    assert held != other


async def test_what_lies_ahead_of_a_long_job_does_not_wait_for_it_however_busy_the_others_are(
    plant: Plant, line: Line
) -> None:
    pool = ProcessPool(2, 1_000_000, lambda: Setup(pickle.dumps(plant.app.settings)))
    warming = tries(pool, *(work.Report(line=plant.line) for _ in range(2)))
    assert await line.heard() != await line.heard()
    for _ in warming:
        await line.answer()
    await asyncio.wait(warming)
    first = tries(pool, *(work.Report(line=plant.line) for _ in range(60)))  # more than both have ahead
    later: list[asyncio.Task[None]] = []
    held = await line.heard()
    async with asyncio.timeout(PROMPT / 2):
        while sum(each.done() for each in first) < 59:
            assert await line.heard() != held
            later += tries(pool, work.Report(line=plant.line))
            await line.answer()
    for task in (*first, *later):
        cancel_for_stop(task)
    await asyncio.wait({*first, *later})
    await pool.close()


async def test_a_process_that_is_held_up_is_not_swamped_with_what_others_then_take(plant: Plant, line: Line) -> None:
    await plant.dispatch(work.Report(line=plant.line))
    plant.start()
    await line.heard()
    for wave in range(1, 41):
        await plant.dispatch(*(work.Quick() for _ in range(9)))
        await plant.until(lambda: len(plant.of(JobCompleted)) == wave * 9)  # noqa: B023
    await line.answer()
    await plant.until(lambda: len(plant.of(JobCompleted)) == 40 * 9 + 1)
    await plant.dispatch(*(work.Report(line=plant.line) for _ in range(2)))
    assert len({await line.heard(), await line.heard()}) == 2


@pytest.mark.parametrize("plant_settings", [{"processes": 1, "max_payload": 10_000_000}])
async def test_jobs_and_errors_larger_than_a_socket_holds(plant: Plant, line: Line) -> None:
    await plant.dispatch(*(work.Large(line=plant.line, data="x" * 2_000_000) for _ in range(3)))
    plant.start(max_tries=1)
    assert [await line.answered() for _ in range(3)] == ["2000000"] * 3
    await plant.until(lambda: len(plant.of(JobFailed)) == 3)
    assert {len(str(each.exception)) for each in plant.of(JobFailed)} == {2_000_000 + len("ValueError: ")}


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_lost_lease_of_a_job_ahead_leaves_the_running_one_alone(plant: Plant, line: Line) -> None:
    pool = ProcessPool(1, 100, lambda: Setup(pickle.dumps(plant.app.settings)))
    running, lost, ahead = tries(pool, *(work.Report(line=plant.line) for _ in range(3)))
    pid = await line.heard()
    cancel_for_stop(lost)
    await asyncio.wait({lost})
    await line.answer()
    assert await line.answered() == pid
    await asyncio.gather(running, ahead)
    assert lost.cancelled() and line.is_silent
    await pool.close()


@pytest.mark.parametrize("plant_settings", [{"processes": 1}])
async def test_a_process_that_would_have_too_much_to_skip_is_replaced_once_it_has_answered(
    plant: Plant, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_pool, "MOST_TAKEN_BACK", 2)
    pool = ProcessPool(1, 100, lambda: Setup(pickle.dumps(plant.app.settings)))
    running, lost, ahead = tries(pool, *(work.Report(line=plant.line) for _ in range(3)))
    pid = await line.heard()
    cancel_for_stop(lost)  # what lies ahead is taken back
    await asyncio.wait({lost})
    await line.answer()
    assert await line.answered() != pid
    await asyncio.gather(running, ahead)
    await pool.close()


def tries(pool: ProcessPool, *jobs: Job) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(pool.run(fetched(job), job, Limits(1, 0.0, 0.0))) for job in jobs]


def fetched(job: Job) -> FetchedJob:
    job.job_id, job.attempts = new_job_id(), 1
    return FetchedJob(job.job_id, "default", write_envelope(job, job.job_id, "default", datetime.now(UTC)), 1, "token")


# ── soft_timeout ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("job", [work.Saves, work.SavesAsync])
async def test_soft_timeout_is_raised_inside_the_job(plant: Plant, line: Line, job: type[work.InProcess]) -> None:
    await plant.dispatch(job(line=plant.line))
    plant.start()
    assert await line.answered() == "saved"
    await plant.until(lambda: len(plant.of(JobCompleted)) == 1)


async def test_a_job_that_does_not_catch_it_fails(plant: Plant) -> None:
    await plant.dispatch(work.DoesNotSave(line=plant.line))
    plant.start(max_tries=1)
    await plant.until(lambda: len(plant.of(JobFailed)) == 1)
    assert str(plant.of(JobFailed)[0].exception) == "SoftTimeout: The job ran longer than its soft_timeout."


def test_an_execution_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="execution='proces' is not known"):
        type("Odd", (Job,), {"execution": "proces"})


def test_execution_is_no_field() -> None:
    annotated: Any = type("Annotated", (Job,), {"__annotations__": {"execution": str}, "execution": "process"})
    with pytest.raises(TypeError, match="declares no field execution"):
        annotated(execution="auto")
