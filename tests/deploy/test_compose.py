"""`docker-compose.yml` is what the compose specification calls one, and keeps our own promises."""

from __future__ import annotations

import os
import re
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from compose_spec.models import ComposeSpecification

from core.observability.health import INTERVAL
from core.roles.router_role import LAST_WORDS
from core.settings import section_classes, variable

ROOT = Path(__file__).parents[2]

STORES = ["mosquitto", "redis", "postgres"]
WORKERS = ["queue-worker-default", "queue-worker-emails", "queue-worker-critical"]
ROLES = ["router", *WORKERS]
LONG_RUNNING = [*STORES, *ROLES]


def text() -> str:
    return (ROOT / "docker-compose.yml").read_text()


@cache
def services() -> dict[str, dict[str, Any]]:
    """As Compose sees them: with anchors merged and variables replaced by their defaults."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(interpolate(text()))["services"]
    return found


def interpolate(source: str) -> str:
    return re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", source).replace("$$", "$")


def parse(source: str) -> compose_spec.PyCompose:
    return compose_spec.PyOptions(apply_merge=True).from_yaml(source)


@pytest.mark.parametrize("source", [text(), interpolate(text())], ids=["as written", "with its defaults"])
def test_it_follows_the_compose_specification(source: str) -> None:
    parsed = parse(source)
    parsed.validate()

    assert sorted(parsed.service_names()) == sorted([*LONG_RUNNING, "migrate"])
    ComposeSpecification.model_validate(yaml.safe_load(source))


def test_a_word_that_the_specification_does_not_know_would_be_noticed() -> None:
    with pytest.raises(ValueError, match="stop_grace"):
        parse(text().replace("stop_grace_period: 40s", "stop_grace: 40s"))


def test_every_volume_is_declared_and_every_mounted_file_is_there() -> None:
    declared = yaml.safe_load(text())["volumes"]
    sources = {mount.partition(":")[0] for service in services().values() for mount in service.get("volumes", [])}

    assert {source for source in sources if not source.startswith(".")} == set(declared)
    assert all((ROOT / source).is_file() for source in sources if source.startswith("."))


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_has_a_health_check_and_comes_back(name: str) -> None:
    assert services()[name]["healthcheck"]["test"]
    assert services()[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", [*LONG_RUNNING, "migrate"])
def test_no_service_has_a_name_that_a_second_container_could_not_have(name: str) -> None:
    assert "container_name" not in services()[name]
    assert "hostname" not in services()[name]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_can_be_scaled(name: str) -> None:
    assert "ports" not in services()[name]
    assert "volumes" not in services()[name]
    assert services()[name]["command"] == ["--queue-work", "--queue", name.removeprefix("queue-worker-")]


@pytest.mark.parametrize("name", ROLES)
def test_a_role_starts_after_the_migration_and_its_stores(name: str) -> None:
    waits_for = {other: each["condition"] for other, each in services()[name]["depends_on"].items()}
    broker = {"mosquitto": "service_healthy"} if name == "router" else {}

    assert waits_for == broker | {
        "migrate": "service_completed_successfully",
        "redis": "service_healthy",
        "postgres": "service_healthy",
    }


def test_the_migration_runs_once() -> None:
    assert services()["migrate"]["command"] == ["--migrate"]
    assert services()["migrate"]["restart"] == "no"


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_not_killed_within_its_grace(name: str) -> None:
    service = services()[name]
    grace = float(service["environment"]["APP_GRACE"])

    assert compose_spec.parse_duration(service["stop_grace_period"]) > grace + LAST_WORDS


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_every_setting_that_is_given_exists(name: str) -> None:
    known = {variable(section, field) for section in section_classes() for field in section.model_fields}

    assert set(services()[name]["environment"]) <= known


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_the_parts_find_each_other(name: str) -> None:
    given = services()[name]["environment"]

    assert given["QUEUE_CONNECTION"] == "redis"
    assert given["REDIS_URL"] == f"redis://:{services()['redis']['environment']['REDISCLI_AUTH']}@redis:6379/0"
    assert given[
        "DATABASE_URL"
    ] == "postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@postgres:5432/{POSTGRES_DB}".format(
        **services()["postgres"]["environment"]
    )
    assert (given["MQTT_BROKER"], given["MQTT_PORT"], given["MQTT_CLIENT_ID"]) == ("mosquitto", "1883", "routemq")


def test_what_stores_acknowledge_is_on_disk() -> None:
    redis = " ".join(services()["redis"]["command"])

    assert "--appendonly yes" in redis
    assert "--maxmemory-policy noeviction" in redis
    assert all(any(not mount.startswith(".") for mount in services()[name]["volumes"]) for name in STORES)


@pytest.mark.parametrize("name", STORES)
def test_no_store_is_open_to_other_machines(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in services()[name].get("ports", []))


@pytest.mark.parametrize(
    ("age", "healthy"),
    [
        pytest.param(0.0, True, id="just touched"),
        pytest.param(2 * INTERVAL, True, id="one touch was late"),
        pytest.param(6 * INTERVAL, False, id="old"),
        pytest.param(None, False, id="missing"),
    ],
)
def test_the_health_check_reads_the_age_of_the_health_file(tmp_path: Path, age: float | None, healthy: bool) -> None:
    kind, command = services()["router"]["healthcheck"]["test"]
    shown, file = services()["router"]["environment"]["APP_HEALTH_FILE"], tmp_path / "health"
    assert (kind, shown in command) == ("CMD-SHELL", True)
    if age is not None:
        file.touch()
        os.utime(file, (time.time() - age,) * 2)

    answer = subprocess.run(["/bin/sh", "-c", command.replace(shown, str(file))], capture_output=True, check=False)

    assert (answer.returncode == 0) is healthy
