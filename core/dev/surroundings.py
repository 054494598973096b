"""Where things are in this run of `--dev`, for those who want to look closer."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Surroundings:
    broker_host: str
    broker_port: int
    database: str
    connection: str
    log_file: Path
    ignored: tuple[str, ...] = ()
    """Variables that name another store than this run uses."""

    @property
    def broker(self) -> str:
        return f"{self.broker_host}:{self.broker_port}"

    @property
    def database_here(self) -> str:
        """The database, as short as it can be told from here."""
        before, scheme, path = self.database.partition("sqlite:///")
        return self.database if before or not scheme else f"{scheme}{_shortest(path)}"

    @property
    def log_file_here(self) -> str:
        return _shortest(str(self.log_file))

    def command(self, words: str) -> str:
        """A command of this program, as it is typed here, for the store of this run."""
        here = f"DATABASE_URL={self.database} QUEUE_CONNECTION={self.connection} " if self.ignored else ""
        return f"{here}{_shortest(sys.executable)} {_shortest(sys.argv[0])} {words}"

    def notes(self) -> list[str]:
        """What may be other than expected."""
        if not self.ignored:
            return []
        names = ", ".join(self.ignored)
        return [
            f"{names}: left alone, as --dev has a store of its own; --configured-stores makes it use what they name"
        ]

    def hints(self) -> list[tuple[str, str]]:
        """What to try next: a command, and what it is good for."""
        return [
            (self.command("--queue-failed"), "what failed, and why"),
            (self.command("--queue-retry all"), "run it again"),
            (self.command("--queue-stats"), "what waits on the queues"),
            (self.command("--route-list"), "where messages go"),
            (
                f"mosquitto_pub -V 5 -p {self.broker_port} -t TOPIC -m PAYLOAD",
                "publish yourself",
            ),
        ]


def _shortest(path: str) -> str:
    return min(path, os.path.relpath(path), key=len)
