"""The locks work behind any mirror, and every dependency has its reason on record."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ["requirements.lock", "requirements-dev.lock"]


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [re.split(r"[\[~=<>; ]", requirement)[0] for requirement in requirements]


def locked(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_path(lock: str) -> None:
    assert not re.search(r"://|^-|file:|@ ", (ROOT / lock).read_text(), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_both_locks_agree() -> None:
    everything = locked("requirements-dev.lock")
    runtime = locked("requirements.lock")
    assert runtime
    assert {name: everything[name] for name in runtime} == runtime


def test_the_lock_holds_what_is_declared() -> None:
    assert set(declared()) <= set(locked("requirements-dev.lock"))


@pytest.mark.parametrize("name", declared())
def test_every_dependency_has_its_reason(name: str) -> None:
    rows = [line.split("|")[1] for line in (ROOT / "docs/dependencies.md").read_text().splitlines() if "|" in line]
    assert name in [word for row in rows for word in row.replace(",", " ").split()]
