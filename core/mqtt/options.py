"""What the MQTT room has to know, as one value that the application fills from the settings."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.errors import SettingError

_MIB = 1024 * 1024


class _ClosingSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class TlsOptions:
    ca_file: Path | None = None
    """Whom to trust, in PEM; the system's authorities where it is None."""
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    insecure: bool = False
    """Do not compare the broker's name with its certificate. The certificate itself is still verified."""

    def context(self) -> ssl.SSLContext:
        """Read the files, anew on each call, so that a renewed certificate needs no restart.

        Raises SettingError where a file cannot be read or key and certificate do not fit.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file, self._password)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"The TLS files cannot be used: {error}. Check MQTT_TLS_CA_FILE={self.ca_file}, "
                f"MQTT_TLS_CERT_FILE={self.cert_file}, MQTT_TLS_KEY_FILE={self.key_file} and the password."
            ) from error
        context.check_hostname = not self.insecure
        context.sslsocket_class = _ClosingSocket
        return context

    def _password(self) -> str:
        # Without this, OpenSSL would ask for the password of an encrypted key on the terminal.
        return self.key_password or ""


@dataclass(frozen=True, slots=True)
class WillOptions:
    """What the broker publishes when our connection ends without a DISCONNECT (MQTT 5, section 3.1.2.5)."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class MqttOptions:
    host: str = "localhost"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    protocol: Literal["5", "3.1.1"] = "5"
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: str = "/mqtt"
    tls: TlsOptions | None = None
    will: WillOptions | None = None
    keepalive: int = 60  # seconds
    session_expiry: int = 7 * 24 * 3600
    """Seconds that an MQTT 5 broker keeps our session while we are away; 3.1.1 leaves that to the broker."""
    receive: Literal["fast", "stock"] = "fast"
    """Whether we read PUBLISH packets ourselves, where that is possible, or leave it to paho."""
    max_in_flight: int = 1000
    """Messages at most between their arrival and their PUBACK; for QoS 0, the end of their handling."""
    max_in_flight_bytes: int = 64 * _MIB
    """Payload bytes at most in the same span; the message that crosses the line is still taken."""
    answer_timeout: float = 10.0  # seconds for CONNACK, SUBACK, and the PUBACK of what we publish
    reconnect_min: float = 0.5  # seconds
    reconnect_max: float = 30.0  # seconds

    @property
    def address(self) -> str:
        """`host:port`, as errors and events name the broker."""
        return f"{self.host}:{self.port}"
