"""`--queue-work --processes N`: supervised workers, as a user runs them."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil

from tests.acceptance.conftest import dispatch
from tests.acceptance.program import Program, Site, until
from tests.acceptance.sample_app.jobs.work import Gated, KillsItsWorker, Record

TWO = ("--queue-work", "--processes", "2", "--sleep", "3600")


def workers(supervisor: Program) -> list[tuple[str, int]]:
    """Number and process id of each worker that was started, in order."""
    found = re.findall(r"started worker (\d) as process (\d+)", supervisor.stderr)
    return [(number, int(pid)) for number, pid in found]


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def until_gone(*pids: int) -> None:
    until(lambda: not any(is_alive(pid) for pid in pids), "the end of the workers")


async def test_each_is_a_process_that_works_and_they_stop_together(sqlite_site: Site) -> None:
    site = sqlite_site
    with site.start(*TWO, "--concurrency", "1") as supervisor:
        await dispatch(site, Gated(), Gated())
        pids = {entry["pid"] for entry in site.wait_for("waiting", 2)}
        assert pids == {pid for _, pid in workers(supervisor)} and supervisor.pid not in pids
        supervisor.send(signal.SIGTERM)
        until(lambda: supervisor.stderr.count("letting 1 jobs end") == 2, "the signal in both workers")
        site.open_gate()
        supervisor.ends(0)
    assert len(site.entries("let through")) == 2
    until_gone(*pids)


async def test_a_second_signal_has_jobs_handed_back_at_once(sqlite_site: Site) -> None:
    site = sqlite_site
    with site.start(*TWO, APP_GRACE="120") as supervisor:
        await dispatch(site, Gated())
        site.wait_for("waiting")
        supervisor.send(signal.SIGINT)
        supervisor.says("letting 1 jobs end")
        supervisor.send(signal.SIGINT)
        supervisor.ends(0)
    (stats,) = site.json("--queue-stats")
    assert (stats["available"], stats["executing"]) == (1, 0)


async def test_a_worker_that_is_killed_comes_back(sqlite_site: Site) -> None:
    site = sqlite_site
    with site.start(*TWO) as supervisor:
        await dispatch(site, Gated())
        (entry,) = site.wait_for("waiting")
        os.kill(entry["pid"], signal.SIGKILL)
        supervisor.says("ended with exit code -9")
        until(lambda: len(workers(supervisor)) == 3, "the new worker")
        site.wait_for("waiting", 2)
        site.open_gate()
        site.wait_for("let through")
        supervisor.stop()


async def test_workers_end_with_their_supervisor_however_it_ends(sqlite_site: Site) -> None:
    site = sqlite_site
    with site.start(*TWO, APP_GRACE="0") as supervisor:
        await dispatch(site, Gated())
        site.wait_for("waiting")
        supervisor.kill()
        until_gone(*(pid for _, pid in workers(supervisor)))
    (stats,) = site.json("--queue-stats")
    assert (stats["available"], stats["executing"]) == (1, 0)


async def test_a_worker_is_replaced_after_max_jobs(sqlite_site: Site) -> None:
    site = sqlite_site
    await dispatch(site, *(Record(n=n) for n in range(4)))
    with site.start("--queue-work", "--processes", "1", "--max-jobs", "2") as supervisor:
        pids = [entry["pid"] for entry in site.wait_for("recorded", 4)]
        supervisor.stop()
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2]
    assert "is used up and replaced" in supervisor.stderr and "exit code" not in supervisor.stderr


async def test_a_worker_that_has_grown_is_replaced(sqlite_site: Site) -> None:
    with sqlite_site.start("--queue-work", "--processes", "1", "--memory", "1") as supervisor:
        until(lambda: len(workers(supervisor)) == 2, "the new worker")
        assert "--memory allows 1" in supervisor.stderr
        supervisor.stop()


async def test_stop_when_empty_ends_all_of_them(sqlite_site: Site) -> None:
    """Also beside a job that kills workers: such a worker comes back until its job is in failed_jobs."""
    site = sqlite_site
    await dispatch(site, *(Record(n=n) for n in range(20)), KillsItsWorker())
    site.run("--queue-work", "--processes", "2", "--stop-when-empty")
    assert {entry["n"] for entry in site.entries("recorded")} == set(range(20))
    assert len(site.entries("killing")) == KillsItsWorker.max_tries
    (row,) = site.json("--queue-failed")
    assert "MaxTriesExceededError" in row["exception"]


async def test_once_and_max_time_end_for_good(sqlite_site: Site) -> None:
    site = sqlite_site
    await dispatch(site, *(Record(n=n) for n in range(3)))
    site.run("--queue-work", "--processes", "2", "--once")
    assert len(site.entries("recorded")) == 2
    site.run("--queue-work", "--processes", "2", "--max-time", "0.1")


def test_what_keeps_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    site = Site(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    said = site.complains(*TWO)
    assert said.count("python main.py --migrate") == 1 and "started worker" not in said


async def test_options_reach_the_workers(sqlite_site: Site) -> None:
    site = sqlite_site
    await dispatch(site, Record(n=1), queue="a")
    await dispatch(site, Record(n=2), queue="b")
    site.run("--queue-work", "--processes", "1", "--queue", "a=3,b=1", "--timeout", "5", "--stop-when-empty")
    assert {entry["n"] for entry in site.entries("recorded")} == {1, 2}


async def test_the_health_file_is_there_while_every_worker_is_well(sqlite_site: Site, tmp_path: Path) -> None:
    health = tmp_path / "health"
    with sqlite_site.start(*TWO, APP_HEALTH_FILE=str(health)) as supervisor:
        until(health.exists, "the file")
        assert Path(f"{health}.1").exists() and Path(f"{health}.2").exists()
        supervisor.stop()
    assert not list(tmp_path.glob("health*"))
