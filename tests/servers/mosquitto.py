"""mosquitto, if it is on PATH."""

from __future__ import annotations

import getpass

from tests.servers.mqtt_wire import accepts
from tests.servers.process import ServerProcess, find_program


class MosquittoProcess(ServerProcess):
    """`settings` are further lines of its configuration file. Sessions survive `restart()`, not `kill()`."""

    program: str | None = find_program("mosquitto")

    def __init__(self, port: int | None = None, *, settings: str = "") -> None:
        super().__init__(port)
        self.settings = settings

    @property
    def port_311(self) -> int:
        """Both versions of MQTT are served on one port."""
        return self.port

    def prepare(self) -> None:
        # Without a limit on what it queues: at the default of 1,000 messages it drops the rest.
        (self.directory / "mosquitto.conf").write_text(
            f"listener {self.port} {self.host}\n"
            "allow_anonymous true\n"
            f"user {getpass.getuser()}\n"
            "persistence true\n"
            f"persistence_location {self.directory}/\n"
            "max_queued_messages 0\n"
            f"{self.settings}\n"
        )

    def command(self) -> list[str]:
        assert self.program
        return [self.program, "-c", str(self.directory / "mosquitto.conf")]

    def is_ready(self) -> bool:
        return accepts(self.host, self.port)
