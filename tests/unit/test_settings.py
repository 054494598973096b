"""Settings: read once, typed, and every error names the variable, its value and the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.errors import SettingError
from core.settings import Settings, load_settings, section_classes, variable

ROOT = Path(__file__).parents[2]
NUMBERS = [
    "MQTT_PORT",
    "MQTT_KEEPALIVE",
    "QUEUE_LEASE",
    "QUEUE_MAX_TRIES",
    "DATABASE_POOL_SIZE",
    "REDIS_DB",
    "APP_GRACE",
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for section in section_classes():
        for field in section.model_fields:
            monkeypatch.delenv(variable(section, field), raising=False)
    monkeypatch.setattr("core.settings.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)


def problem_with(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError) as caught:
        load_settings()
    return str(caught.value)


# ── where they come from ─────────────────────────────────────────────────────────────────────────────────


def test_without_any_setting_there_are_defaults() -> None:
    settings = load_settings()
    assert (settings.app.package, settings.queue.connection, settings.queue.lease) == ("app", "database", 15.0)
    assert settings.database.url.startswith("sqlite+aiosqlite:///")
    assert settings.queue.max_payload == 1024 * 1024


def test_the_level_of_logs_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert load_settings().logging.level == "DEBUG"


def test_the_environment_wins_over_the_file_and_overrides_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MQTT_PORT=1111\nMQTT_BROKER=file\nMQTT_CLIENT_ID=file\n")
    monkeypatch.setenv("MQTT_PORT", "2222")
    monkeypatch.setenv("MQTT_CLIENT_ID", "real")
    settings = load_settings(mqtt={"client_id": "given"})
    assert (settings.mqtt.broker, settings.mqtt.port, settings.mqtt.client_id) == ("file", 2222, "given")


def test_another_file_or_none_may_be_read(tmp_path: Path) -> None:
    Path(".env").write_text("MQTT_PORT=1111\n")
    (tmp_path / "other").write_text("MQTT_PORT=2222\n")
    assert load_settings(tmp_path / "other").mqtt.port == 2222
    assert load_settings(None).mqtt.port == 1883


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", "")
    monkeypatch.setenv("REDIS_URL", "")
    settings = load_settings()
    assert settings.mqtt.port == 1883
    assert not settings.redis.is_configured


def test_variables_of_others_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SHOP_NAME=x\nMQTT_UNHEARD_OF=1\n")
    assert isinstance(load_settings(), Settings)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    Path(".env").write_bytes(b"MQTT_USERNAME=M\xfcller\n")
    with pytest.raises(SettingError, match=r"^\.env is not text in UTF-8.*Save it as UTF-8\.$"):
        load_settings()


def test_a_relative_file_of_sqlite_is_one_file_wherever_a_program_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().database.url == f"sqlite+aiosqlite:///{tmp_path}/storage/routemq.sqlite3"
    for url, absolute in {
        "sqlite:///a.db?x=1": f"sqlite:///{tmp_path}/a.db?x=1",
        "sqlite:////tmp/a.db": "sqlite:////tmp/a.db",
        "sqlite:///:memory:": "sqlite:///:memory:",
        "mysql://u@h/sqlite:///a": "mysql://u@h/sqlite:///a",
    }.items():
        monkeypatch.setenv("DATABASE_URL", url)
        assert load_settings().database.url == absolute


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().mqtt.port = 1


def test_pitfall_12_settings_that_come_after_every_import_hold(tmp_path: Path) -> None:
    """A process whose settings are all nonsense until each module is imported; the directory is not the project's."""
    for name in ("core", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = f"""
import importlib, os, pathlib, pkgutil, sys
sys.path.insert(0, {str(tmp_path)!r})
import core, config
for package in (core, config):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in {NUMBERS!r}:
    del os.environ[name]
os.environ["MQTT_PORT"] = "1111"
pathlib.Path({str(tmp_path / ".env")!r}).write_text("QUEUE_LEASE=7")
from core.settings import load_settings
settings = load_settings()
print(settings.mqtt.port, settings.queue.lease, settings.queue.max_tries)
"""
    environment = {**os.environ, **dict.fromkeys(NUMBERS, "nonsense")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd="/", capture_output=True, text=True, env=environment, check=False
    )
    assert (done.stdout, done.stderr) == ("1111 7.0 3\n", "")


def test_pitfall_12_a_file_written_after_the_import_is_read() -> None:
    Path(".env").write_text("QUEUE_DEFAULT=late\n")
    assert load_settings().queue.default == "late"


def test_the_file_is_beside_main_wherever_a_program_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path(".env").write_text("QUEUE_DEFAULT=here\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".env").write_text("QUEUE_DEFAULT=there\n")
    monkeypatch.chdir(elsewhere)
    assert load_settings().queue.default == "here"
    assert load_settings(elsewhere / ".env").queue.default == "there"


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("MQTT_PORT", "abc", "the broker's port; 8883 is usual with TLS"),
        ("MQTT_PORT", "0", "the broker's port"),
        ("MQTT_PORT", "65536", "the broker's port"),
        ("MQTT_BROKER", "mqtt://here", "a host name or address, without mqtt://"),
        ("MQTT_PROTOCOL", "4", "5 or 3.1.1"),
        ("MQTT_HANDLER_TRIES", "0", "tries of a handler before failed_jobs"),
        ("MQTT_MAX_IN_FLIGHT", "-1", "messages at most"),
        ("MQTT_GROUP_NAME", "a/b", "the $share group"),
        ("MQTT_TLS_CA_FILE", "/nowhere.pem", "PEM of whom to trust"),
        ("MQTT_WILL_QOS", "3", "the QoS of that message"),
        ("MQTT_WILL_TOPIC", "a/#", "where our death is announced"),
        ("QUEUE_CONNECTION", "sqs", "`redis` or `database`"),
        ("QUEUE_LEASE", "0", "seconds; a dead worker's jobs"),
        ("QUEUE_LEASE", "-15", "seconds; a dead worker's jobs"),
        ("QUEUE_LEASE", "inf", "seconds; a dead worker's jobs"),
        ("QUEUE_LEASE", "nan", "seconds; a dead worker's jobs"),
        ("QUEUE_LEASE", "86401", "seconds; a dead worker's jobs"),
        ("QUEUE_LEASE", "0.9", "seconds; a dead worker's jobs"),
        ("QUEUE_DEFAULT", "a,b", "the queue of a job that names none"),
        ("QUEUE_DEFAULT", "x=3", "the queue of a job that names none"),
        ("QUEUE_DEFAULT", " a", "the queue of a job that names none"),
        ("QUEUE_DEFAULT", "x" * 192, "the queue of a job that names none"),
        ("QUEUE_RETRY_AFTER", "1e300", "seconds between a failed try and the next"),
        ("QUEUE_TIMEOUT", "inf", "seconds that one try may take"),
        ("QUEUE_SLEEP", "inf", "seconds between polls"),
        ("QUEUE_CONCURRENCY", "9" * 30, "jobs that one worker runs side by side"),
        ("QUEUE_MAX_TRIES", "9" * 30, "how often a job is started at most"),
        ("MQTT_RECONNECT_MAX", "inf", "seconds between tries to reconnect"),
        ("APP_GRACE", "nan", "seconds that running jobs and controllers get"),
        ("APP_START_TIMEOUT", "1e300", "seconds to wait at start"),
        ("QUEUE_MAX_PAYLOAD", "16777217", "at most 16777216 (16 MiB)"),
        ("QUEUE_MAX_PAYLOAD", "-1", "bytes of one job's envelope"),
        ("QUEUE_MAX_TRIES", "0", "how often a job is started at most"),
        ("QUEUE_RETRY_AFTER", "-1", "seconds between a failed try and the next"),
        ("QUEUE_TIMEOUT", "-1", "seconds that one try may take"),
        ("QUEUE_CONCURRENCY", "0", "jobs that one worker runs side by side"),
        ("QUEUE_SLEEP", "0", "seconds between polls"),
        ("QUEUE_MAX_PENDING", "-5", "dispatches that wait"),
        ("DATABASE_POOL_SIZE", "many", "connections of one process at most"),
        ("REDIS_PORT", "-1", "a TCP port"),
        ("REDIS_DB", "-1", "number of the database"),
        ("REDIS_URL", "localhost:6379", "redis://user:password@host:port/db"),
        ("QUEUE_REDIS_DURABILITY", "disk", "memory, fsync or replicas:N"),
        ("QUEUE_REDIS_DURABILITY", "replicas:0", "memory, fsync or replicas:N"),
        ("QUEUE_REDIS_DURABILITY", "replicas:-1", "memory, fsync or replicas:N"),
        ("QUEUE_REDIS_DURABILITY", "fsync ", "memory, fsync or replicas:N"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING or ERROR"),
        ("LOG_FORMAT", "xml", "`text` for people, `json` for machines"),
        ("APP_GRACE", "-1", "seconds that running jobs and controllers get"),
        ("APP_START_TIMEOUT", "soon", "seconds to wait at start"),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
) -> None:
    problem = problem_with(monkeypatch, **{name: value})
    assert problem.startswith(f"{name}={value!r} is not usable: ")
    assert remedy in problem
    assert problem.endswith("Correct it in the environment or in .env.")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("MQTT_BROKER", "mqtt://here", "it has a character or a form that cannot be"),
        ("MQTT_PORT", "abc", "it is no whole number"),
        ("MQTT_PORT", "1.5", "it is no whole number"),
        ("MQTT_PORT", "65536", "it must be 65535 or less"),
        ("MQTT_KEEPALIVE", "0", "it must be 1 or more"),
        ("MQTT_TLS_ENABLED", "maybe", "it is neither true nor false"),
        ("MQTT_TLS_CA_FILE", "/nowhere.pem", "it is no file that is there"),
        ("QUEUE_LEASE", "often", "it is no number"),
        ("QUEUE_LEASE", "nan", "it is no finite number"),
        ("QUEUE_LEASE", "0", "it must be 1 or more"),
        ("QUEUE_SLEEP", "0", "it must be above 0"),
        (
            "QUEUE_DEFAULT",
            "a,b",
            "the name of a queue is 1 to 191 printable characters, without , and = and without blanks around them",
        ),
        ("LOG_FORMAT", "xml", "it must be 'text' or 'json'"),
        (
            "REDIS_URL",
            "localhost",
            "it is no URL that begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
        ),
        ("QUEUE_REDIS_DURABILITY", "replicas", "it has a character or a form that cannot be"),
    ],
)
def test_what_is_wrong_is_told_in_words_of_ours(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    assert f" is not usable: {why}. It is: " in problem_with(monkeypatch, **{name: value})


def numbers() -> list[str]:
    return [
        variable(section, name)
        for section in section_classes()
        for name, field in section.model_fields.items()
        if field.annotation in (int, float, int | None, float | None)
    ]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("name", numbers())
def test_no_number_is_infinite_or_none_at_all(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert problem_with(monkeypatch, **{name: value}).startswith(f"{name}={value!r} is not usable: ")


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_with(monkeypatch, MQTT_PORT="x", MQTT_KEEPALIVE="0", QUEUE_LEASE="y", LOG_LEVEL="z")
    assert [line.partition("=")[0] for line in problem.splitlines()] == [
        "MQTT_PORT",
        "MQTT_KEEPALIVE",
        "QUEUE_LEASE",
        "LOG_LEVEL",
    ]


def test_a_wrong_setting_of_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("QUEUE_LEASE=often\n")
    assert problem_with(monkeypatch).startswith("QUEUE_LEASE='often' is not usable")


@pytest.mark.parametrize(
    "environment",
    [
        {"MQTT_BROKER": "mqtt://user:hush/hush@here"},
        {"MQTT_BROKER": "user:hush@here /"},
        {"REDIS_URL": "http://user:hush@here"},
        {"REDIS_URL": "redis://user:hu/sh@here"},
        {"REDIS_URL": "redis://user:hush@here:port/0"},
        {"REDIS_URL": "user:hush@here"},
        {"REDIS_URL": "redis+sentinel://user:hush@here"},
        {"REDIS_URL": "redis+sentinel://here?sentinel_password=hush&password=hush"},
        {"REDIS_URL": "redis+cluster://user:hush@here/3"},
        {"MQTT_PASSWORD": "hush"},
        {"MQTT_PASSWORD": "hush", "MQTT_USERNAME": "u", "MQTT_PORT": "0"},
        {"REDIS_PASSWORD": "hush", "REDIS_PORT": "x"},
        {"DATABASE_URL": "mysql://user:hush@here/x", "DATABASE_POOL_SIZE": "0"},
    ],
    ids=lambda environment: " ".join(environment.values()),
)
def test_no_secret_is_told(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    problem = problem_with(monkeypatch, **environment)
    assert "hush" not in problem
    assert "sh@" not in problem
    assert next(iter(environment)).partition("_")[0] in problem


def test_a_password_is_never_told_even_where_it_is_none() -> None:
    with pytest.raises(SettingError) as caught:
        load_settings(mqtt={"password": ["hush"]})
    assert str(caught.value).startswith("MQTT_PASSWORD=*** is not usable: ")
    assert "hush" not in str(caught.value)


def test_secrets_are_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MQTT_PASSWORD", "MQTT_TLS_KEY_PASSWORD", "REDIS_PASSWORD"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("MQTT_USERNAME", "u")
    monkeypatch.setenv("REDIS_URL", "redis://:hush@here")
    assert "hush" not in repr(load_settings())


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MQTT_PASSWORD": "x"}, "MQTT_PASSWORD needs MQTT_USERNAME beside it"),
        ({"MQTT_RECONNECT_MIN": "5", "MQTT_RECONNECT_MAX": "1"}, "MQTT_RECONNECT_MAX must not be below"),
        ({"MQTT_TLS_CA_FILE": __file__}, "need MQTT_TLS_ENABLED=true beside them"),
        ({"MQTT_TLS_ENABLED": "true", "MQTT_TLS_KEY_FILE": __file__}, "MQTT_TLS_KEY_FILE needs MQTT_TLS_CERT_FILE"),
    ],
    ids=["password", "reconnect", "tls", "key"],
)
def test_settings_that_do_not_fit_together_are_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    problem = problem_with(monkeypatch, **environment)
    assert words in problem
    assert problem.endswith("correct the environment or .env.")


# ── what becomes of them ─────────────────────────────────────────────────────────────────────────────────


def test_the_mqtt_room_is_handed_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MQTT_BROKER": "here",
        "MQTT_USERNAME": "u",
        "MQTT_PASSWORD": "hush",
        "MQTT_TLS_ENABLED": "true",
        "MQTT_TLS_CA_FILE": __file__,
        "MQTT_WILL_TOPIC": "gone",
        "MQTT_WILL_PAYLOAD": "bye",
        "MQTT_WILL_QOS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    options = load_settings().mqtt.options()
    assert (options.host, options.port, options.username, options.password) == ("here", 1883, "u", "hush")
    assert options.tls is not None
    assert options.tls.ca_file == Path(__file__)
    assert options.will is not None
    assert (options.will.topic, options.will.payload, options.will.qos) == ("gone", b"bye", 1)


def test_without_tls_and_will_there_are_none() -> None:
    options = load_settings().mqtt.options()
    assert (options.tls, options.will, options.password) == (None, None, None)


@pytest.mark.parametrize(("name", "configured"), [("REDIS_URL", True), ("REDIS_HOST", True), ("REDIS_DB", False)])
def test_redis_is_configured_by_url_or_host(monkeypatch: pytest.MonkeyPatch, name: str, configured: bool) -> None:
    monkeypatch.setenv(name, {"REDIS_URL": "redis://here", "REDIS_HOST": "here", "REDIS_DB": "1"}[name])
    assert load_settings().redis.is_configured is configured


def test_the_single_settings_of_redis_make_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "hush")
    monkeypatch.setenv("REDIS_DB", "2")
    address = load_settings().redis.address()
    assert address.options == {"host": "localhost", "port": 6379, "db": 2, "username": None, "password": "hush"}
    assert str(address) == "localhost:6379/2"
