"""A program ends with its exit code, whatever of the app's code still runs: each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import asyncio, sys, threading, time
from core.cli.ending import ending_in_time
from core.cli.event_loop import run_loop
from core.threads import plainly_as

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def busy():
    started.set()
    time.sleep(3600)

async def leave_a_task():
    asyncio.create_task(deaf(), name="deaf-task")
    await asyncio.sleep(0)

async def leave_a_thread():
    asyncio.get_running_loop().run_in_executor(None, plainly_as, "app.jobs.Busy 0190-id", busy)
    while not started.is_set():
        await asyncio.sleep(0)

async def leave_an_idle_thread():
    await asyncio.to_thread(int)

async def leave_both():
    await leave_a_task()
    await leave_a_thread()

started = threading.Event()
with ending_in_time():
    run_loop(%s())
    print("done")
    %s
"""


def run(work: str, end: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM % (work, end)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("work", ["leave_a_task", "leave_a_thread", "leave_both"])
def test_what_is_left_running_does_not_keep_the_process(work: str) -> None:
    ended = run(work, "pass")
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit()", 0), ("sys.exit(2)", 2), ("sys.exit('why')", 1), ("raise ZeroDivisionError", 1)]
)
def test_what_is_left_running_does_not_change_the_exit_code(end: str, code: int) -> None:
    ended = run("leave_a_thread", end)
    assert (ended.returncode, ended.stdout) == (code, "done\n"), ended.stderr
    assert ("ZeroDivisionError" in ended.stderr) == ("ZeroDivision" in end)


def test_what_is_cut_off_is_named() -> None:
    said = run("leave_both", "pass").stderr
    assert "'deaf-task' does not end" in said
    assert "threads of the app's code still run: app.jobs.Busy 0190-id; they are cut off" in said


def test_nothing_is_said_of_threads_that_end() -> None:
    assert run("leave_an_idle_thread", "pass").stderr == ""
