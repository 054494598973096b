"""From a device's message to a finished job, as a user runs it: real broker, real stores, real processes."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import time

from tests.acceptance.conftest import broker_settings, dispatch, failed, publish, until_queued
from tests.acceptance.program import PATIENCE, Site, until
from tests.acceptance.sample_app.jobs.work import Fails, Gated, KillsItsWorker, Record
from tests.servers.iotcore import IotcoreProcess
from tests.servers.mosquitto import MosquittoProcess

MESSAGES = 2000


async def _publish_numbers(site: Site, numbers: range) -> None:
    program = shutil.which("mosquitto_pub")
    if program is None:
        await publish(site, [("numbers", str(n)) for n in numbers])
        return
    where = ["-h", site.env["MQTT_BROKER"], "-p", site.env["MQTT_PORT"], "-t", f"{site.env['SAMPLE_TOPICS']}/numbers"]
    lines = "".join(f"{n}\n" for n in numbers)
    subprocess.run([program, *where, "-q", "1", "-l"], input=lines, text=True, check=True, timeout=PATIENCE)  # noqa: ASYNC221


async def test_2000_messages_become_exactly_2000_finished_jobs(site: Site, broker_of_choice: dict[str, str]) -> None:
    site.env |= broker_of_choice | {"LOG_LEVEL": "WARNING"}
    with site.start(LOG_LEVEL="INFO") as router:
        router.says("connected to the MQTT broker")
        await _publish_numbers(site, range(MESSAGES))
        await until_queued(site, MESSAGES, "a", "b")
        router.stop()
    site.run("--queue-work", "--queue", "a,b", "--stop-when-empty")
    assert sorted(entry["n"] for entry in site.entries("recorded")) == list(range(MESSAGES))
    assert all(queue["available"] + queue["executing"] + queue["failed"] == 0 for queue in site.json("--queue-stats"))


async def test_pitfall_01_a_router_killed_while_200_controllers_wait_loses_no_message(
    sqlite_site: Site, restartable_broker: IotcoreProcess | MosquittoProcess
) -> None:
    site = sqlite_site
    count = 90 if isinstance(restartable_broker, IotcoreProcess) else 200  # iotcore lets 100 wait at most
    site.env |= broker_settings(restartable_broker)
    with site.start() as router:
        router.says("connected to the MQTT broker")
        await publish(site, [(f"gated/{n}", b"") for n in range(count)])
        site.wait_for("controller waiting", count)
        router.kill()
    site.open_gate()
    with site.start() as router:
        await until_queued(site, count, "a")
        router.stop()
    site.run("--queue-work", "--queue", "a", "--stop-when-empty")
    assert {entry["n"] for entry in site.entries("recorded")} == set(range(count))


async def test_a_job_whose_worker_is_killed_runs_again_within_two_leases(site: Site) -> None:
    """Though no new work arrives: the other worker is idle, and --sleep keeps it so."""
    lease, busy_machine = 3.0, 2.0  # seconds
    site.env["QUEUE_LEASE"] = str(lease)
    await dispatch(site, Gated())
    with site.start("--queue-work") as first:
        site.wait_for("waiting")
        with site.start("--queue-work", "--sleep", "3600") as second:
            second.says("jobs side by side")
            killed_at = time.monotonic()
            first.kill()
            again = site.wait_for("waiting", 2)[1]
            site.open_gate()
            site.wait_for("let through")
            second.stop()
    assert [entry["attempts"] for entry in site.entries("waiting")] == [1, 2]
    assert again["monotonic"] - killed_at < 2 * lease + busy_machine


async def test_pitfall_20_a_job_that_kills_its_workers_ends_in_failed_jobs(site: Site) -> None:
    (job_id,) = await dispatch(site, KillsItsWorker())
    for _ in range(KillsItsWorker.max_tries):
        with site.start("--queue-work") as worker:
            worker.ends(-signal.SIGKILL)
    with site.start("--queue-work") as worker:
        site.wait_for("failed hook")
        worker.stop()
    assert [entry["attempts"] for entry in site.entries("killing")] == [1, 2]
    (row,) = site.json("--queue-failed")
    assert row["job_id"] == job_id and "MaxTriesExceededError" in row["exception"]


async def test_three_tries_a_second_apart_then_failed_jobs_then_retried_by_hand(site: Site) -> None:
    (job_id,) = await dispatch(site, Fails())
    with site.start("--queue-work") as worker:
        worker.says("It is in failed_jobs")
        worker.stop()
    times = [entry["at"] for entry in site.entries("trying")]
    assert len(times) == 3
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(times))
    (row,) = site.json("--queue-failed")
    assert (row["job_id"], row["attempts"], row["queue"]) == (job_id, 3, "default")
    assert row["exception"].startswith("Traceback (most recent call last)")
    assert 'raise ValueError("fails on purpose")' in row["exception"]

    site.run("--queue-retry", str(row["id"]))
    assert await failed(site) == []
    site.run("--queue-work", "--max-jobs", "1", "--max-tries", "1")
    assert [entry["attempts"] for entry in site.entries("trying")] == [1, 2, 3, 1]
    assert [row.job_id for row in await failed(site)] == [job_id]


async def test_max_jobs_1_max_tries_1_runs_one_job_once(site: Site) -> None:
    await dispatch(site, Fails(), Fails())
    site.run("--queue-work", "--max-jobs", "1", "--max-tries", "1")
    assert len(site.entries("trying")) == 1
    (stats,) = site.json("--queue-stats")
    assert (stats["available"], stats["retryable"], stats["failed"]) == (1, 0, 1)


async def test_pitfall_26_an_idle_worker_hears_of_a_dispatch(site: Site) -> None:
    """With --sleep 3600, nothing but the wake-up can be what starts it."""
    with site.start("--queue-work", "--sleep", "3600") as worker:
        await dispatch(site, Record(n=0))
        site.wait_for("recorded")
        await dispatch(site, Record(n=1))
        site.wait_for("recorded", 2)
        worker.stop()


async def test_sigterm_lets_running_jobs_end(sqlite_site: Site) -> None:
    site = sqlite_site
    await dispatch(site, Gated(), Record(n=1))
    with site.start("--queue-work", "--concurrency", "1") as worker:
        site.wait_for("waiting")
        worker.send(signal.SIGTERM)
        worker.says("letting 1 jobs end")
        site.open_gate()
        worker.ends(0)
    assert len(site.entries("let through")) == 1
    assert site.entries("recorded") == []
    (stats,) = site.json("--queue-stats")
    assert (stats["available"], stats["executing"]) == (1, 0)


async def test_a_second_sigterm_hands_running_jobs_back_at_once(site: Site) -> None:
    await dispatch(site, Gated())
    with site.start("--queue-work", APP_GRACE="3600") as worker:
        site.wait_for("waiting")
        worker.send(signal.SIGTERM)
        worker.says("letting 1 jobs end")
        worker.send(signal.SIGTERM)
        worker.ends(0)
    (stats,) = site.json("--queue-stats")
    assert (stats["available"], stats["executing"]) == (1, 0)


async def test_once_runs_one_job_and_does_not_wait_for_one(sqlite_site: Site) -> None:
    site = sqlite_site
    site.run("--queue-work", "--once")
    await dispatch(site, Record(n=1), Record(n=2))
    site.run("--queue-work", "--once")
    until(lambda: len(site.entries("recorded")) == 1)
