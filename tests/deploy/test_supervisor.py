"""A real supervisord with the shipped `supervisor.conf` runs the roles, brings one that died back, and stops them."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import psutil
import pytest
from supervisor.xmlrpc import SupervisorTransport

from core.mqtt.options import MqttOptions
from core.mqtt.publisher import OneShotPublisher
from core.roles.router_role import LAST_WORDS
from core.settings import load_settings
from tests.servers.guardian import guardian
from tests.servers.iotcore import IotcoreProcess
from tests.servers.process import READY_WITHIN, ServerProcess

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "supervisor.conf"
PROGRAMS = {
    "router",
    "queue-worker-default-0",
    "queue-worker-default-1",
    "queue-worker-emails",
    "queue-worker-critical",
}


class Supervisord(ServerProcess):
    """In a directory of its own, which holds the shipped files by links, so that %(here)s is that directory."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__()
        self._watched: set[int] = set()
        self._environment = environment | {
            "DATABASE_URL": f"sqlite:///{self.directory}/queue.sqlite3",
            "ROUTEMQ_PYTHON": sys.executable,
        }

    def prepare(self) -> None:
        for file in (ROOT / "main.py", CONFIG):
            (self.directory / file.name).symlink_to(file)
        self._run("main.py", "--migrate")

    def command(self) -> list[str]:
        return self._python("-m", "supervisor.supervisord", "-c", "supervisor.conf")

    def is_ready(self) -> bool:
        return "supervisord started with pid" in self.log()

    def close(self) -> None:
        super().close()
        for pid in self._watched:
            guardian().forget(pid)

    def watch_programs(self) -> None:
        """They would outlive a supervisord that is killed."""
        self._watched |= {each["pid"] for each in self.programs().values()}
        for pid in self._watched:
            guardian().watch(pid, self.directory)

    def programs(self) -> dict[str, Any]:
        transport = SupervisorTransport(serverurl=f"unix://{self.directory}/supervisor.sock")
        with ServerProxy("http://supervisor", transport=transport) as proxy:
            found: Any = proxy.supervisor.getAllProcessInfo()
        return {each["name"]: each for each in found}

    def shut_down(self) -> int:
        """Its exit code, once every program has ended."""
        assert self._process
        self._process.terminate()
        return self._process.wait(READY_WITHIN)

    def _run(self, *arguments: str) -> None:
        subprocess.run(self._python(*arguments), cwd=self.directory, check=True, capture_output=True)

    def _python(self, *arguments: str) -> list[str]:
        return ["env", *(f"{name}={value}" for name, value in self._environment.items()), sys.executable, *arguments]


@pytest.fixture
def broker() -> Iterator[IotcoreProcess]:
    with IotcoreProcess() as broker:
        yield broker


@pytest.fixture
def supervisord(broker: IotcoreProcess) -> Iterator[Supervisord]:
    environment = {
        "APP_PACKAGE": "tests.deploy.fleet",
        "MQTT_BROKER": broker.host,
        "MQTT_PORT": str(broker.port),
        "QUEUE_CONNECTION": "database",
    }
    with Supervisord(environment) as server:
        yield server


async def until(condition: Callable[[], bool], server: Supervisord) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"waited {READY_WITHIN} s in vain. The log:\n{server.log()[-4000:]}"
        await asyncio.sleep(0.05)


def all_run(server: Supervisord) -> bool:
    return all(each["statename"] == "RUNNING" for each in server.programs().values())


@pytest.mark.timeout(240)  # six interpreters start, twice waited for
async def test_a_killed_worker_comes_back_and_all_stop_with_grace(
    supervisord: Supervisord, broker: IotcoreProcess
) -> None:
    await until(lambda: all_run(supervisord), supervisord)
    supervisord.watch_programs()
    killed = supervisord.programs()["queue-worker-critical"]["pid"]
    # The role itself, not a shell around it that would keep signals for itself.
    assert psutil.Process(killed).cmdline()[1:] == ["main.py", "--queue-work", "--queue", "critical"]

    os.kill(killed, signal.SIGKILL)
    await until(lambda: supervisord.programs()["queue-worker-critical"]["pid"] not in (0, killed), supervisord)
    await until(lambda: "connected to the MQTT broker" in supervisord.log(), supervisord)
    await OneShotPublisher(MqttOptions(host=broker.host, port=broker.port)).publish("notes/back", b"", qos=1)
    await until((supervisord.directory / "back.note").exists, supervisord)
    await until(lambda: all_run(supervisord), supervisord)
    supervisord.watch_programs()

    assert supervisord.programs().keys() == PROGRAMS
    assert supervisord.shut_down() == 0
    # Killed at the end of stopwaitsecs, a program would be "terminated by SIGKILL".
    assert dict(re.findall(r"stopped: (\S+) \((.*)\)", supervisord.log())) == dict.fromkeys(PROGRAMS, "exit status 0")


def sections() -> dict[str, dict[str, str]]:
    config = RawConfigParser(inline_comment_prefixes=(";", "#"))
    config.read(CONFIG)
    return {name.removeprefix("program:"): dict(config[name]) for name in config.sections() if "program:" in name}


ALL = sections()


@pytest.mark.parametrize("name", ALL)
def test_a_program_restarts_and_is_not_killed_within_its_grace(name: str) -> None:
    program, grace = ALL[name], load_settings(env_file=None).app.grace

    assert (program["autorestart"], program["stopsignal"], program["killasgroup"]) == ("true", "TERM", "true")
    assert float(program["stopwaitsecs"]) > grace + LAST_WORDS
    assert (program["stdout_logfile"], program["redirect_stderr"]) == ("/dev/stdout", "true")


@pytest.mark.parametrize("name", ALL)
def test_routemq_python_names_the_interpreter(name: str, tmp_path: Path) -> None:
    arguments = ALL[name]["command"].partition('" ')[2].removesuffix("'")
    for place in (".venv/bin/python", "other"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f'#!/bin/sh\necho {place} "$@"\n')
        (tmp_path / place).chmod(0o755)

    assert started(ALL[name]["command"], tmp_path, {}) == f".venv/bin/python {arguments}"
    assert started(ALL[name]["command"], tmp_path, {"ROUTEMQ_PYTHON": "./other"}) == f"other {arguments}"


def started(command: str, directory: Path, environment: dict[str, str]) -> str:
    output = subprocess.run(
        shlex.split(command), cwd=directory, env={"PATH": os.defpath} | environment, capture_output=True, check=True
    )
    return output.stdout.decode().strip()
