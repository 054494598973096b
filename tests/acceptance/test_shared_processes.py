"""`shared=True, worker_count=2`: supervised processes that share the messages of a group."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.acceptance.conftest import publish, until_queued
from tests.acceptance.program import Program, Site, until
from tests.servers.kinds import redis_kind

MESSAGES = 40


@pytest.fixture
def router(sqlite_site: Site, with_broker: Callable[[Site], Site]) -> Iterator[Program]:
    with with_broker(sqlite_site).start(SAMPLE_SHARED="1") as router:
        _until_all_are_connected(router)
        yield router


def _until_all_are_connected(router: Program) -> None:
    until(lambda: router.stderr.count("connected to the MQTT broker") == 3, "the router and its two processes")


def _processes(router: Program) -> dict[str, int]:
    """The number of each shared process, and its latest process id."""
    found = re.findall(r"started shared process (\d) as process (\d+)", router.stderr)
    return {number: int(pid) for number, pid in found}


async def test_pitfall_11_two_processes_handle_each_message_once(sqlite_site: Site, router: Program) -> None:
    await publish(sqlite_site, [("shared", str(n)) for n in range(MESSAGES)])
    entries = sqlite_site.wait_for("shared", MESSAGES)
    assert sorted(entry["n"] for entry in entries) == list(range(MESSAGES))
    assert {entry["pid"] for entry in entries} == set(_processes(router).values())
    router.stop()
    assert not any(psutil.pid_exists(pid) for pid in _processes(router).values())


async def test_pitfall_11_a_dead_process_comes_back_and_loses_nothing(sqlite_site: Site, router: Program) -> None:
    victim = _processes(router)["1"]
    os.kill(victim, signal.SIGKILL)
    router.says("ended with exit code -9")
    await publish(sqlite_site, [("shared", str(n)) for n in range(MESSAGES)])
    until(lambda: router.stderr.count("connected to the MQTT broker") == 4, "the new process")
    entries = sqlite_site.wait_for("shared", MESSAGES)
    assert {entry["n"] for entry in entries} == set(range(MESSAGES))
    assert _processes(router)["1"] != victim
    router.stop()


@pytest.mark.parametrize("store_kind", [redis_kind()], indirect=True)
async def test_pitfall_11_a_shared_process_dispatches_to_redis(site: Site, broker_of_choice: dict[str, str]) -> None:
    """Each has connections of its own, made where it runs."""
    site.env |= broker_of_choice
    with site.start(SAMPLE_SHARED="1") as router:
        _until_all_are_connected(router)
        await publish(site, [("shared", str(n)) for n in range(MESSAGES)])
        await until_queued(site, MESSAGES, "a")
        assert {entry["pid"] for entry in site.entries("shared")} == set(_processes(router).values())
        router.stop()
    site.run("--queue-work", "--queue", "a", "--stop-when-empty")
    assert sorted(entry["n"] for entry in site.entries("recorded")) == list(range(MESSAGES))


def test_each_process_has_a_health_file_of_its_own_and_the_routers_covers_them_all(
    sqlite_site: Site, broker_of_choice: dict[str, str]
) -> None:
    whole = sqlite_site.directory / "health"
    each = [sqlite_site.directory / f"health.{number}" for number in (1, 2)]
    with sqlite_site.start(SAMPLE_SHARED="1", APP_HEALTH_FILE=str(whole), **broker_of_choice) as router:
        until(whole.exists, "the health of the router")
        assert all(file.exists() for file in each)
        os.kill(_processes(router)["1"], signal.SIGTERM)
        router.says("shared process 1 (process")
        assert whole.exists()
        router.stop()
    assert not any(file.exists() for file in (whole, *each))


def test_processes_wait_at_their_start_as_long_as_the_router(
    sqlite_site: Site, broker_of_choice: dict[str, str]
) -> None:
    with sqlite_site.start("router", "--start-timeout", "33", SAMPLE_SHARED="1", **broker_of_choice) as router:
        until(lambda: len(_processes(router)) == 2, "the shared processes")
        for pid in _processes(router).values():
            assert "--start-timeout=33.0" in psutil.Process(pid).cmdline()
        router.stop()


def test_processes_end_with_their_router_however_it_ends(router: Program) -> None:
    children = _processes(router).values()
    router.kill()
    until(lambda: not any(_is_alive(pid) for pid in children), "the end of the processes")


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
