"""The settings of `--dev`: its parts are embedded ones, whatever the environment and `.env` say of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.settings import Settings, load_settings, variable

_BROKER = {
    "username": None,
    "password": None,
    "protocol": "5",
    "transport": "tcp",
    "tls_enabled": False,
    "tls_ca_file": None,
    "tls_cert_file": None,
    "tls_key_file": None,
    "tls_key_password": None,
}
"""How the embedded broker is spoken to."""

_STORES = (("database", "url"), ("queue", "connection"), ("redis", "url"), ("redis", "host"))
"""What leads to a store. All of them go back to their defaults: an SQLite file, and no Redis."""


@dataclass(frozen=True)
class EmbeddedSettings:
    settings: Settings
    ignored: tuple[str, ...]
    """The variables that name another store than the one that is used."""


def embedded_settings(host: str, port: int, *, configured_stores: bool = False) -> EmbeddedSettings:
    """The settings with the embedded broker in them and, unless the configured ones are wanted, a store of our own.

    A production database must not be migrated, filled and emptied because its address stands in `.env`.
    """
    broker = {**_BROKER, "broker": host, "port": port}
    configured = load_settings(mqtt=broker)
    if configured_stores:
        return EmbeddedSettings(configured, ())
    stores: dict[str, Any] = {}
    ignored = []
    for name, field in _STORES:
        section = getattr(configured, name)
        default = type(section).model_fields[field].default
        stores.setdefault(name, {})[field] = default
        if getattr(section, field) != default:
            ignored.append(variable(type(section), field))
    return EmbeddedSettings(load_settings(mqtt=broker, **stores), tuple(ignored))
