"""A program that is started warm is as one that is started by `python`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import warm_python

PROGRAM = """
import atexit, json, os, sys, threading
atexit.register(print, "the end")
import beside, elsewhere
told = {
    "argv": sys.argv, "name": __name__, "main": sys.modules["__main__"].__dict__ is globals(), "cwd": os.getcwd(),
    "environment": dict(os.environ), "path": sys.path, "modules": [beside.__file__, elsewhere.__file__],
    "core": "core" in sys.modules, "tests": "tests" in sys.modules, "threads": threading.active_count(),
    "leads": os.getsid(0) == os.getpid(), "input": sys.stdin.read(), "descriptors": os.listdir("/proc/self/fd"),
}
print(json.dumps(told))
print("a complaint", file=sys.stderr)
sys.exit(3)
"""


def _project(folder: Path, program: str) -> tuple[Path, dict[str, str]]:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "elsewhere.py").touch()
    (folder / "beside.py").touch()
    script = folder / "program.py"
    script.write_text(program)
    return script, {"PYTHONPATH": str(folder / "elsewhere"), "LC_ALL": "C.UTF-8"}


def _run(script: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    with (script.parent / "out").open("w+") as out, (script.parent / "err").open("w+") as err:
        process = warm_python.start(
            script, "--word", "é", env=env, cwd=script.parent, stdout=out.fileno(), stderr=err.fileno()
        )
        code = process.wait(30.0)
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def test_it_finds_and_tells_what_a_cold_one_does(tmp_path: Path) -> None:
    script, env = _project(tmp_path, PROGRAM)
    cold = subprocess.run(
        [sys.executable, str(script), "--word", "é"],
        check=False,
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=30,
    )
    code, out, err = _run(script, env)
    assert (code, err) == (cold.returncode, cold.stderr) == (3, "a complaint\n")
    (told, end), (told_by_cold, end_of_cold) = out.splitlines(), cold.stdout.splitlines()
    assert json.loads(told) == json.loads(told_by_cold)
    assert end == end_of_cold == "the end"


def test_an_exception_is_told_and_exit_code_1(tmp_path: Path) -> None:
    script, env = _project(tmp_path, "raise ValueError('no')")
    code, _, told = _run(script, env)
    assert code == 1 and "ValueError: no" in told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    script, env = _project(tmp_path, "import signal; print('up', flush=True); signal.pause()")
    read, write = os.pipe()
    process = warm_python.start(script, env=env, cwd=tmp_path, stdout=write, stderr=2)
    os.close(write)
    with os.fdopen(read) as said:
        assert said.readline() == "up\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(30.0) == process.poll() == -number
        assert said.read() == ""
    process.kill()  # no other process may have its number by now
