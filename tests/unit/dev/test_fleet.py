from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.clock import Backoff
from core.dev.fleet import Fleet, find_simulation, run_fleet
from core.errors import BrokerUnavailableError
from core.mqtt.options import MqttOptions

MakePackage = Callable[..., str]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str) -> Iterator[MakePackage]:
    monkeypatch.syspath_prepend(tmp_path)

    def make(**modules: str) -> str:
        (tmp_path / unique).mkdir()
        for name, text in {"__init__": "", **modules}.items():
            (tmp_path / unique / f"{name}.py").write_text(text)
        return unique

    yield make
    for name in [each for each in sys.modules if each.partition(".")[0] == unique]:
        del sys.modules[name]


def test_the_simulation_is_found_by_its_name(make_package: MakePackage) -> None:
    package = make_package(simulation="async def simulate(fleet): ...")
    found = find_simulation(package)
    assert found is not None
    assert found.__module__ == f"{package}.simulation"


def test_an_app_need_not_have_one(make_package: MakePackage) -> None:
    assert find_simulation(make_package()) is None


async def test_a_fleet_that_fails_starts_anew(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next", lambda self: 0.0)
    failures: list[Exception] = [ValueError("a defect"), BrokerUnavailableError("no broker")]
    runs_well = asyncio.Event()

    async def simulate(fleet: Fleet) -> None:
        if failures:
            raise failures.pop()
        runs_well.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING, "routemq.dev"):
        running = asyncio.create_task(run_fleet(simulate, Fleet(MqttOptions())))
        await runs_well.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "no broker" in caplog.text
    assert "a defect" in caplog.text
