"""The MQTT broker: where it is, who we are to it, and how much we take from it at once."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from core.mqtt.options import MqttOptions, TlsOptions, WillOptions
from core.settings import Section, SomeSeconds


class MqttSettings(Section):
    model_config = SettingsConfigDict(env_prefix="MQTT_")

    broker: str = Field("localhost", pattern=r"^[^\s/]+$", description="a host name or address, without mqtt://")
    port: int = Field(1883, ge=1, le=65535, description="the broker's port; 8883 is usual with TLS")
    username: str | None = Field(None, description="the name to log in with")
    password: SecretStr | None = Field(None, description="the password to log in with")
    client_id: str = Field(
        "routemq",
        pattern=r"^[^\x00]{1,1024}$",
        description="the name under which the broker keeps our messages: fixed, and of this router only",
    )
    group_name: str = Field("routemq", pattern=r"^[^/+#\x00]+$", description="the $share group of shared routes")
    protocol: Literal["5", "3.1.1"] = Field("5", description="5 or 3.1.1")
    keepalive: int = Field(60, ge=1, le=65535, description="seconds of silence after which either side pings")
    session_expiry: int = Field(
        604800,
        ge=0,
        le=0xFFFFFFFF,
        description="seconds that the broker keeps our messages while we are away",
    )
    receive: Literal["fast", "stock"] = Field("fast", description="fast, or stock: messages by way of paho-mqtt")
    max_in_flight: int = Field(1000, ge=1, le=65535, description="messages at most from arrival to PUBACK")
    max_in_flight_bytes: int = Field(67108864, ge=1, description="bytes of payload at most in that span")
    handler_tries: int = Field(3, ge=1, description="tries of a handler before failed_jobs")
    handler_threads: int = Field(16, ge=1, le=1000, description="threads for controllers that are not async")
    reconnect_min: SomeSeconds = Field(0.5, description="seconds before the first try to reconnect")
    reconnect_max: SomeSeconds = Field(30.0, description="seconds between tries to reconnect, at most")

    transport: Literal["tcp", "websockets"] = Field("tcp", description="tcp or websockets")
    websocket_path: str = Field("/mqtt", pattern=r"^/", description="the path of the broker's WebSocket")

    tls_enabled: bool = Field(False, description="encrypt the connection")
    tls_ca_file: FilePath | None = Field(None, description="PEM of whom to trust; unset: the system's")
    tls_cert_file: FilePath | None = Field(None, description="PEM of our client certificate")
    tls_key_file: FilePath | None = Field(None, description="PEM of our client key")
    tls_key_password: SecretStr | None = Field(None, description="the password of the client key")
    tls_insecure: bool = Field(False, description="do not compare the broker's name with its certificate")

    will_topic: str | None = Field(None, pattern=r"^[^+#\x00]+$", description="where our death is announced")
    will_payload: str = Field("", description="what it says there")
    will_qos: int = Field(0, ge=0, le=2, description="the QoS of that message")
    will_retain: bool = Field(False, description="whether that message is retained")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("MQTT_TLS_KEY_FILE needs MQTT_TLS_CERT_FILE beside it")
        if self.password and not self.username:
            raise ValueError("MQTT_PASSWORD needs MQTT_USERNAME beside it")
        if self.reconnect_max < self.reconnect_min:
            raise ValueError("MQTT_RECONNECT_MAX must not be below MQTT_RECONNECT_MIN")
        if not self.tls_enabled and (self.tls_ca_file or self.tls_cert_file):
            raise ValueError("MQTT_TLS_CA_FILE and MQTT_TLS_CERT_FILE need MQTT_TLS_ENABLED=true beside them")
        return self

    def options(self) -> MqttOptions:
        """The same, as the MQTT room wants it."""
        return MqttOptions(
            host=self.broker,
            port=self.port,
            username=self.username,
            password=_secret(self.password),
            protocol=self.protocol,
            transport=self.transport,
            websocket_path=self.websocket_path,
            tls=self._tls(),
            will=self._will(),
            keepalive=self.keepalive,
            session_expiry=self.session_expiry,
            receive=self.receive,
            max_in_flight=self.max_in_flight,
            max_in_flight_bytes=self.max_in_flight_bytes,
            reconnect_min=self.reconnect_min,
            reconnect_max=self.reconnect_max,
        )

    def _tls(self) -> TlsOptions | None:
        if not self.tls_enabled:
            return None
        return TlsOptions(
            self.tls_ca_file,
            self.tls_cert_file,
            self.tls_key_file,
            _secret(self.tls_key_password),
            self.tls_insecure,
        )

    def _will(self) -> WillOptions | None:
        if not self.will_topic:
            return None
        return WillOptions(self.will_topic, self.will_payload.encode(), self.will_qos, self.will_retain)


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
