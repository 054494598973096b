"""The example app: what its messages lead to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import mail
from app.models.reading import Reading
from tests.unit.app.conftest import Example

READING = {"taken_at": "2026-01-01T12:00:00Z", "temperature": 61.5}


async def test_a_reading_ends_in_the_table(example: Example) -> None:
    await example.receive("fleet/mill/saw-1/telemetry", READING)
    await example.work()
    (row,) = await Reading.all()
    assert (row.site, row.sensor, row.temperature) == ("mill", "saw-1", 61.5)
    assert row.taken_at == datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_a_reading_that_is_delivered_twice_is_one_row(example: Example) -> None:
    for _ in range(2):
        await example.receive("fleet/mill/saw-1/telemetry", READING)
    await example.work()
    assert len(await Reading.all()) == 1
    assert await example.failures() == []


async def test_a_hot_reading_alerts_on_a_queue_of_its_own(example: Example) -> None:
    await example.receive("fleet/mill/saw-1/telemetry", READING | {"temperature": 80.1})
    assert (await example.size("critical"), await example.size("default")) == (1, 1)
    await example.work("critical")
    assert await example.size("emails") == 1


@pytest.mark.parametrize("payload", [b"not JSON", {"temperature": "hot"}, {}])
async def test_a_reading_that_is_none_is_kept_for_the_operator(example: Example, payload: object) -> None:
    await example.receive("fleet/mill/saw-1/telemetry", payload)
    (failure,) = await example.failures()
    assert failure.startswith("core.errors.PayloadError: ")


@pytest.mark.parametrize(
    ("payload", "retain", "alerts"), [(b"offline", False, 1), (b"offline", True, 0), (b"online", False, 0)]
)
async def test_a_last_will_alerts_once(example: Example, payload: bytes, retain: bool, alerts: int) -> None:
    await example.receive("fleet/mill/saw-1/status", payload, retain=retain)
    assert await example.size("critical") == alerts


async def test_a_device_that_asks_for_its_settings_gets_an_answer(example: Example) -> None:
    await example.receive("fleet/mill/saw-1/settings/get", response_topic="inbox/saw-1", correlation_data=b"7")
    ((topic, answer, properties),) = example.published
    assert topic == "inbox/saw-1"
    assert answer == {"interval_seconds": 1.0, "alert_above": 80.0}
    assert properties.correlation_data == b"7"


async def test_old_firmware_fails_on_purpose_after_one_try(example: Example) -> None:
    await example.receive("fleet/mill/saw-1/firmware", b"2.1")
    await example.receive("fleet/mill/belt-5/firmware", b"1.4")
    await example.work()
    assert await example.failures() == [
        "core.errors.PermanentError: mill/belt-5 runs firmware 1.4; update it to 2.0 or later."
    ]


async def test_a_greylisted_mail_is_tried_again_and_then_in_the_outbox(
    example: Example, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("app.jobs.send_email.SendEmail.retry_after", 0)
    await example.receive("fleet/mill/saw-1/telemetry", READING | {"temperature": 99})
    await example.work("critical")
    await example.work("emails")
    await example.work("emails")
    assert (tmp_path / mail.OUTBOX).read_text().count("To: operations@mill.example\n") == 1
    assert await example.size("emails") == 0
