"""`.env.example` lists every setting, with its description and its default, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from core.settings import load_settings, section_classes, variable

EXAMPLE = Path(__file__).parents[2] / ".env.example"

Setting = tuple[str, Any, str | None]


def settings() -> Iterator[Setting]:
    """Name, default and description of each."""
    for section in section_classes():
        for field, info in section.model_fields.items():
            yield variable(section, field), info.default, info.description


ALL = list(settings())


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _, _ in ALL:
        monkeypatch.delenv(name, raising=False)


def test_every_setting_is_listed_and_none_that_is_gone() -> None:
    listed = [line.partition("=")[0] for line in EXAMPLE.read_text().splitlines() if line and line[0] != "#"]

    assert sorted(listed) == sorted(name for name, _, _ in ALL)


@pytest.mark.parametrize(("name", "default", "description"), ALL, ids=[name for name, _, _ in ALL])
def test_a_setting_stands_below_its_description(name: str, default: Any, description: str | None) -> None:
    above = {line.partition("=")[0]: comment for comment, line in pairwise(EXAMPLE.read_text().splitlines())}

    assert description
    assert above[name] == f"# {description}"


@pytest.mark.parametrize(("name", "default", "description"), ALL, ids=[name for name, _, _ in ALL])
def test_a_value_is_written_out_where_there_is_a_default(name: str, default: Any, description: str | None) -> None:
    # An empty value loads as the default, whatever that is: it must not stand for one.
    assert bool(dotenv_values(EXAMPLE)[name]) == (default not in (None, ""))


@pytest.mark.usefixtures("bare_environment")
def test_the_file_loads_as_the_defaults() -> None:
    assert load_settings(env_file=EXAMPLE) == load_settings(env_file=None)


@pytest.mark.usefixtures("bare_environment")
def test_the_values_are_read_rather_than_passed_over(tmp_path: Path) -> None:
    changed = tmp_path / ".env"
    changed.write_text(EXAMPLE.read_text().replace("MQTT_PORT=1883", "MQTT_PORT=1884"))

    assert load_settings(env_file=changed).mqtt.port == 1884
