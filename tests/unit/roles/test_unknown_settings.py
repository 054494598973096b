"""Settings that nothing reads are told of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.roles.unknown_settings import unknown_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("APP_", "MQTT_", "QUEUE_", "DATABASE_", "REDIS_", "LOG_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("core.settings.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)


def test_a_misspelt_setting_is_named_with_the_one_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_CONCURENCY", "3")
    Path(".env").write_text("MQTT_HOTS=here\nMQTT_PASWORD=hush\n")
    assert unknown_settings() == [
        "QUEUE_CONCURENCY in the environment is no setting of RouteMQ's and is ignored; is it QUEUE_CONCURRENCY?",
        "MQTT_HOTS in .env is no setting of RouteMQ's and is ignored.",
        "MQTT_PASWORD in .env is no setting of RouteMQ's and is ignored; is it MQTT_PASSWORD?",
    ]


def test_what_is_known_or_somebody_elses_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUEUE_LEASE", "mqtt_port", "REDIS_PORT_6379_TCP", "REDIS_SERVICE_HOST", "MAIL_HOST", "PATH_QUEUE"):
        monkeypatch.setenv(name, "1")
    Path(".env").write_text("# a comment\n\nexport QUEUE_SLEEP=1\nLOG_LEVEL=\n")
    assert unknown_settings() == []


def test_the_file_is_beside_main_wherever_a_program_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MQTT_HOTS=here\n")
    monkeypatch.chdir("/")
    assert unknown_settings() == ["MQTT_HOTS in .env is no setting of RouteMQ's and is ignored."]


def test_a_line_that_cannot_be_read_is_named() -> None:
    Path(".env").write_text("QUEUE_SLEEP=1\n&&& junk\nQUEUE_LEASE=2\n")
    assert unknown_settings() == [".env, line 2: it is no NAME=value, and is ignored."]
