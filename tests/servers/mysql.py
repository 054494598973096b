"""MariaDB or MySQL, whichever is on PATH."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess

from tests.servers.process import ServerProcess, find_program


class MysqlProcess(ServerProcess):
    program: str | None = find_program("mariadbd") or find_program("mysqld")

    @property
    def url(self) -> str:
        return f"mysql+asyncmy://routemq@{self.host}:{self.port}/mysql"

    def prepare(self) -> None:
        # root may log in from the socket only, or from a name that 127.0.0.1 need not resolve to.
        (self.directory / "init.sql").write_text(
            "CREATE USER IF NOT EXISTS 'routemq'@'%';\nGRANT ALL ON *.* TO 'routemq'@'%' WITH GRANT OPTION;\n"
        )
        done = self._make_data()
        if done.returncode:  # on a busy machine, the installer's server now and then does not come up
            shutil.rmtree(self.directory / "data", ignore_errors=True)
            done = self._make_data()
        if done.returncode:
            raise RuntimeError(f"No data directory for {self}:\n{done.stdout}\n{done.stderr}")

    def _make_data(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._initialise(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def command(self) -> list[str]:
        assert self.program
        return [
            self.program,
            "--no-defaults",
            *self._place,
            f"--init-file={self.directory}/init.sql",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--socket={self.directory}/socket",
            f"--pid-file={self.directory}/pid",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-buffer-pool-size=64M",
            # It is the process that tests kill, not the machine: what the system has is kept.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-flush-method=nosync" if self._is_mariadb else "--innodb-flush-method=fsync",
        ]

    def is_ready(self) -> bool:
        """The server speaks first: a packet whose fifth byte is the protocol's version, 10."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                return connection.recv(5)[4:] == b"\x0a"
        except OSError:
            return False

    @property
    def _place(self) -> list[str]:
        return [f"--datadir={self.directory}/data", f"--user={getpass.getuser()}"]

    @property
    def _is_mariadb(self) -> bool:
        return find_program("mariadb-install-db") is not None

    def _initialise(self) -> list[str]:
        assert self.program
        installer = find_program("mariadb-install-db")
        if installer is None:
            return [self.program, "--no-defaults", *self._place, "--initialize-insecure"]
        return [
            installer,
            "--no-defaults",
            *self._place,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
